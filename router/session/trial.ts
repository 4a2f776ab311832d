/**
 * What a loan does about a read at a follower whose answer may turn out not to be the client's:
 * - the check goes ahead of the statement in the same write, and where it isn't met, what comes behind it is dropped;
 * - where what was read has to be shown to be durable, the answer is withheld until it is.
 * Only for reads by themselves, which may simply be run once more: nothing of them has come to the client.
 * Leaves to others: what is asked of the follower (consistency/follower-read.ts), what happens next (loan.ts).
 */
import type { Verdict } from '../consistency/demand.ts';
import type { Backend, BackendReceiver } from '../pool/backend.ts';
import type { Pool } from '../pool/pool.ts';
import type { Bound } from './bound.ts';
import type { Reading } from './reading.ts';

/** More of an answer isn't withheld: the primary serves such a read. */
const maxWithheldBytes = 1024 * 1024;

/** An answer that was withheld, with the status of its ReadyForQuery. */
interface Withheld {
  readonly bytes: readonly Buffer[];
  readonly status: number;
}

interface TrialOutcome {
  /** The loan still has it: else nothing of this matters any more. */
  isBound(bound: Bound): boolean;
  /** What was withheld is the client's. */
  shown(answer: Withheld): void;
  /** It has to be run elsewhere. `isAnswered`: nothing is due at the backend; else it isn't the loan's any more. */
  failed(isAnswered: boolean): void;
}

export class Trial {
  readonly #reading: Reading;
  readonly #outcome: TrialOutcome;
  #isUnderWay = false;
  #isWithholding = false;
  #bytes: Buffer[] = [];
  #length = 0;
  #status: number | undefined;

  constructor(reading: Reading, outcome: TrialOutcome) {
    this.#reading = reading;
    this.#outcome = outcome;
  }

  /** Whether the answer will be the client's isn't known yet. */
  get isUnderWay(): boolean {
    return this.#isUnderWay;
  }

  /** Gives what goes ahead of a request; undefined where nothing has to be asked. */
  begin(bound: Bound): Buffer | undefined {
    const { read, backend } = bound;
    const isOpen = read?.verdict === 'open';
    this.#isWithholding = read?.needsProof === true;
    this.#isUnderWay = isOpen || this.#isWithholding;
    if (isOpen) return this.#reading.askAhead(read, backend, (verdict) => this.#checked(verdict, bound));
    const lease = read?.lease();
    if (lease !== undefined) backend.believeUnder(lease);
    return undefined;
  }

  /** Behind what has been sent; undefined where nothing has to be shown. */
  behind(bound: Bound): Buffer | undefined {
    const { read, backend } = bound;
    if (!this.#isWithholding || read === undefined) return undefined;
    return this.#reading.askBehind(read, backend, (isDurable) => this.#proven(isDurable, bound));
  }

  /** True where the bytes aren't the client's yet. */
  withholds(bytes: Buffer): boolean {
    if (!this.#isWithholding) return false;
    this.#length += bytes.length;
    if (this.#length <= maxWithheldBytes) this.#bytes.push(bytes);
    else this.#bytes = [];
    return true;
  }

  /** The same of a ReadyForQuery. */
  withholdsReady(status: number): boolean {
    if (this.#isWithholding) this.#status = status;
    return this.#isWithholding;
  }

  end(): void {
    this.#isUnderWay = false;
    this.#isWithholding = false;
    this.#bytes = [];
    this.#length = 0;
    this.#status = undefined;
  }

  /** What comes behind the check counts, or is nobody's. */
  #checked(verdict: Verdict, bound: Bound): void {
    if (!this.#outcome.isBound(bound)) return;
    this.end();
    const lease = bound.read?.lease();
    if (lease !== undefined) bound.backend.believeUnder(lease);
    // What has come with the check was read before this look at the clock.
    if (verdict === 'met' && lease?.isHeld !== false) return;
    void new Drain(bound.backend, bound.pool);
    if (verdict !== 'open') this.#reading.leaveFollowers();
    this.#outcome.failed(false);
  }

  #proven(isDurable: boolean, bound: Bound): void {
    if (!this.#outcome.isBound(bound)) return;
    const [bytes, length, status] = [this.#bytes, this.#length, this.#status];
    this.end();
    if (isDurable && status !== undefined && length <= maxWithheldBytes) {
      bound.isProven = true;
      return this.#outcome.shown({ bytes, status });
    }
    this.#reading.leaveFollowers();
    this.#outcome.failed(true);
  }
}

/** Takes what comes for nobody any more, and gives the backend back when all of it has come. */
class Drain implements BackendReceiver {
  readonly #backend: Backend;
  readonly #pool: Pool;

  constructor(backend: Backend, pool: Pool) {
    this.#backend = backend;
    this.#pool = pool;
    backend.assign(this);
    backend.resume();
  }

  forward(): void {
    // Nobody's.
  }

  observe(): boolean {
    return false;
  }

  notified(): void {
    // Whoever listens keeps a connection at the primary.
  }

  ready(): void {
    if (!this.#backend.isAnswering) this.#pool.giveBack(this.#backend);
  }

  chunkEnd(): void {
    // Nothing was said.
  }

  lost(): void {
    // Its pool knows.
  }

  drained(): void {
    // Nothing more is sent.
  }
}
