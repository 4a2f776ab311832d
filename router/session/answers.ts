/**
 * What the answers of a backend mean to the session that asked: which statement is completed, what was set, what has failed, and what
 * mustn't reach the client. Leaves to others: the bytes (pool/backend.ts), lending and losing the backend (loan.ts).
 *
 * Invariants: a commit whose wait for followers was cancelled is never called a success; what the router asked on its own (`silent`)
 * never reaches the client.
 */
import { RouterError } from '../errors.ts';
import type { StatementPlan } from '../plan/types.ts';
import type { Backend } from '../pool/backend.ts';
import { backend as code, headerBytes, maxServerMessageBytes } from '../wire/codes.ts';
import { FrameSplitter } from '../wire/frames.ts';
import { parseComplete, readErrorFields, readTextRow } from '../wire/server-messages.ts';
import type { Borrower, Request, SilentAnswer } from './borrower.ts';
import type { Bound } from './bound.ts';
import { resultTypeChanged } from './loss.ts';
import { Segment } from './segment.ts';
import { mayCommit } from './transaction.ts';

/** "cached plan must not change result type". */
export const isStalePlan = (fields: ReadonlyMap<string, string>): boolean =>
  fields.get('C') === '0A000' && fields.get('R') === 'RevalidateCachedQuery';

export class Answers {
  readonly segment = new Segment();
  readonly #session: Borrower;
  readonly #isPinnedBySetting: () => boolean;
  /** Of what is under way, or was last. */
  request: Request | undefined;
  /** The answers under way aren't for the client any more: it has had an error in their place. */
  #isMuted = false;
  #silent:
    | { readonly splitter: FrameSplitter; readonly rows: (string | null)[][]; completed: number; affected: number }
    | undefined;
  #error: ReadonlyMap<string, string> | undefined;
  /** The client has had something of the answer, besides that a statement that was there is prepared. */
  #hasAnswered = false;
  #isStale = false;
  /** Goes up with each end. */
  #turn = 0;

  constructor(session: Borrower, isPinnedBySetting: () => boolean) {
    this.#session = session;
    this.#isPinnedBySetting = isPinnedBySetting;
  }

  get isMuted(): boolean {
    return this.#isMuted;
  }

  /** The router says the ReadyForQuery itself: with another status, after something more, or not at all. */
  get endsDifferently(): boolean {
    return (
      this.#isMuted ||
      this.#isStale ||
      this.#session.transaction.isRefused ||
      this.request?.silent !== undefined ||
      this.request?.isImplied === true ||
      (this.request?.trailing.length ?? 0) > 0
    );
  }

  begin(request: Request): void {
    this.request = request;
    this.segment.send(request.plans);
    if (request.silent !== undefined)
      this.#silent = { splitter: new FrameSplitter(maxServerMessageBytes), rows: [], completed: 0, affected: 0 };
    this.#error = undefined;
    this.#hasAnswered = false;
  }

  /** All of it has been answered, or is lost. Gives what a silent request has had. */
  end(): SilentAnswer {
    const answer: SilentAnswer = {
      rows: this.#silent?.rows ?? [],
      completed: this.#silent?.completed ?? 0,
      affected: this.#silent?.affected ?? 0,
      error: this.#error,
      isStale: this.#isStale,
    };
    this.#turn += 1;
    this.#isStale = false;
    this.segment.end();
    this.#isMuted = false;
    this.#silent = undefined;
    return answer;
  }

  /** The client hears of that instead of what follows. */
  replace(error: RouterError): void {
    this.segment.fail();
    if (this.#silent === undefined) this.#session.say(error.response());
    else
      this.#error = new Map([
        ['C', error.sqlstate],
        ['M', error.message],
        ['H', error.hint ?? ''],
      ]);
    this.#isMuted = true;
  }

  /** True where the bytes are the client's. */
  forward(bytes: Buffer): boolean {
    if (this.#isMuted) return false;
    if (bytes !== parseComplete) this.#hasAnswered = true;
    const silent = this.#silent;
    if (silent === undefined) return true;
    silent.splitter.push(bytes, (type, frame) => {
      if (type === code.dataRow) silent.rows.push(readTextRow(frame, 0, frame.length));
    });
    return false;
  }

  observe(type: number, buffer: Buffer, start: number, end: number, bound: Bound | undefined): boolean {
    switch (type) {
      case code.commandComplete: {
        if (this.segment.waitWasCancelled) {
          this.#outcomeUnknown(bound);
          return false;
        }
        const plan = this.segment.complete();
        const tag = (): string => buffer.toString('latin1', start + headerBytes, end - 1);
        if (this.#silent !== undefined) {
          this.#silent.completed += 1;
          this.#silent.affected += Number(/ (\d+)$/.exec(tag())?.[1] ?? 0);
        }
        if (plan !== undefined) this.#completed(plan, tag, bound);
        return true;
      }
      case code.emptyQuery:
      case code.portalSuspended:
        this.segment.complete();
        return true;
      case code.error: {
        this.segment.fail();
        const fields = readErrorFields(buffer, start, end);
        this.#error = fields;
        // A prepared statement whose result changed with the schema.
        if (!isStalePlan(fields)) return true;
        this.#session.resultTypeChanged();
        // In a transaction of the client's it is undone with it; by itself, nothing has happened yet.
        this.#isStale =
          this.request?.again !== undefined && !this.#hasAnswered && this.#session.transaction.isIdle && !this.#isMuted;
        return !this.#isStale;
      }
      case code.notice:
        return !this.#isCancelledWait(buffer, start, end);
      case code.readyForQuery:
        // In the extended protocol the commit comes with the Sync, when its statement has been called complete already.
        if (this.segment.waitWasCancelled) this.#outcomeUnknown(bound);
        return !this.endsDifferently;
      default:
        return true;
    }
  }

  /** What is to be called where something that is sent now gives something else than its client was told. */
  whenChanged(bound: Bound, trial: { readonly isUnderWay: boolean }): () => void {
    const turn = this.#turn;
    return () => {
      if (turn !== this.#turn || this.#isMuted || this.#session.isClosed) return;
      // A read that may still be run elsewhere is, and says it there.
      if (trial.isUnderWay) bound.backend.close('a statement gives something else than before');
      else this.#changed(bound);
    };
  }

  /** It has run, and none of it is passed on. */
  #changed(bound: Bound): void {
    const { transaction } = this.#session;
    const { plans } = this.segment;
    const mayBeKept = transaction.isOpen
      ? plans.some((plan) => plan === undefined || mayCommit(plan))
      : plans.some((plan) => plan?.access !== 'read');
    bound.backend.isSuspect = true;
    if (transaction.isOpen) transaction.fail(true);
    const error = resultTypeChanged();
    this.replace(mayBeKept ? new RouterError('OutcomeUnknown', `${error.message}, and it has run`) : error);
  }

  /** The pin couldn't be set: what follows would run for nobody. */
  pinFailed(error: ReadonlyMap<string, string> | undefined, backend: Backend): void {
    if (error === undefined || this.#isMuted || this.#session.isClosed || backend.isClosed) return;
    backend.isSuspect = true;
    this.replace(
      new RouterError('Internal', error.get('M') ?? 'a statement of the router failed', {
        sqlstate: error.get('C'),
        hint: error.get('H'),
      }),
    );
  }

  /** A commit whose wait for followers was cancelled: Postgres calls it a success with a warning (docs/design.md, section 4). */
  #isCancelledWait(buffer: Buffer, start: number, end: number): boolean {
    const fields = readErrorFields(buffer, start, end);
    if (fields.get('C') !== '01000' || fields.get('R') !== 'SyncRepWaitForLSN') return false;
    this.segment.waitWasCancelled = true;
    return true;
  }

  #outcomeUnknown(bound: Bound | undefined): void {
    this.segment.waitWasCancelled = false;
    this.replace(new RouterError('OutcomeUnknown', 'the commit was not confirmed by its followers'));
    // Settings made in it count as undone for the session, but the backend has kept them.
    if (bound !== undefined) bound.backend.isSuspect = true;
  }

  #completed(plan: StatementPlan, tag: () => string, bound: Bound | undefined): void {
    if (plan.kind === 'transaction') {
      this.#session.transaction.apply(plan, tag());
      // A pin set after the savepoint is gone with it.
      if (plan.transaction?.verb === 'rollback-to' && bound !== undefined) bound.needsPin = this.#isPinnedBySetting();
      return;
    }
    // Names of the protocol go with those of SQL.
    if (plan.kind === 'deallocate' && plan.prepared?.name === undefined) bound?.backend.prepared.clear();
    if (plan.kind !== 'set' && plan.kind !== 'reset') return;
    if (!this.#session.settings.apply(plan) || bound === undefined) return;
    // The backend went back to its own default, not to what the start-up packet of this client said; and RESET ALL took the pin.
    bound.backend.isSuspect = true;
    if (plan.reset?.name === 'all') bound.needsPin = this.#isPinnedBySetting();
  }
}
