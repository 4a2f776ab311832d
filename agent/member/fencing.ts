/**
 * A fence, as the member does it: the lease ends, the promise is on disk, the tunnels are closed, and only then is told how
 * far the log goes that is here. A primary is stopped first, in order where it is handed over, at once otherwise.
 * The same fence may be asked for again, also after a restart, and is answered from what is there.
 * Source: docs/design.md, section 4, "Fence"; docs/design-traps.md, A3, A4, A7, A11, B6.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { MemberIdentity } from '#core/identity.ts';
import type { Fenced, FenceQuestion, FenceRefusal } from '#core/protocol/authority.ts';
import type { StandingOrders } from './standing-orders.ts';

export type FenceOutcome =
  | { readonly kind: 'fenced'; readonly answer: Fenced }
  | { readonly kind: 'refused'; readonly refusal: FenceRefusal };

export type PositionSeen =
  | { readonly kind: 'known'; readonly timeline: number; readonly lsn: string }
  /** It can't be read: this member doesn't count. */
  | { readonly kind: 'unknown'; readonly problem: string }
  /** Not yet: Postgres is still on its way down. */
  | { readonly kind: 'busy'; readonly problem: string };

export interface FencingOptions {
  readonly standing: StandingOrders;
  /** Orders and fences one at a time. */
  readonly exclusively: <Result>(work: () => Promise<Result>) => Promise<Result>;
  /** Before the promise: no grant is given any more, and a primary that isn't handed over asks for none. */
  readonly endLease: (handover: boolean) => Promise<void>;
  /** After the promise: whatever it doesn't allow any more is closed. */
  readonly onPromised: (handover: boolean) => void;
  readonly position: () => Promise<PositionSeen>;
  readonly grantRemainingMs: () => number;
}

const BUSY_MS = 1_500;

export class Fencing {
  readonly #options: FencingOptions;
  /** Read once for all who ask meanwhile. */
  #reading: { readonly epoch: number; readonly position: Promise<PositionSeen> } | undefined;

  #taken = 0;

  constructor(options: FencingOptions) {
    this.#options = options;
  }

  /** Promises made by a fence since the agent's start. */
  get taken(): number {
    return this.#taken;
  }

  async fence(question: FenceQuestion): Promise<FenceOutcome> {
    const { standing, exclusively, endLease, onPromised } = this.#options;
    const { epoch, handover } = question;
    const refusal = await exclusively(async () => {
      const decision = standing.decideFence(question);
      if (decision.kind === 'Refuse') return this.#refusal(decision.code, decision.message);
      await endLease(handover);
      const before = standing.promise.epoch;
      await standing.promiseFence(decision);
      if (standing.promise.epoch > before) this.#taken += 1;
      onPromised(handover);
      return undefined;
    });
    if (refusal !== undefined) return { kind: 'refused', refusal };
    const cancel = new AbortController();
    const position = await Promise.race([
      this.#read(epoch),
      sleep(BUSY_MS, { kind: 'busy' as const, problem: 'still on the way' }, { signal: cancel.signal }),
    ]).finally(() => cancel.abort());
    // Meanwhile this promise may have been outdated, or have got its grantee.
    const isStill = standing.promise.epoch === epoch && standing.promise.grantee === '';
    if (!isStill) return { kind: 'refused', refusal: this.#refusal('Promised', 'another promise was made meanwhile') };
    if (position.kind === 'busy') return { kind: 'refused', refusal: this.#refusal('Busy', position.problem) };
    return { kind: 'fenced', answer: this.#answer(epoch, position) };
  }

  #read(epoch: number): Promise<PositionSeen> {
    if (this.#reading?.epoch === epoch) return this.#reading.position;
    const position = this.#options.position().catch((error: unknown) => ({
      kind: 'unknown' as const,
      problem: error instanceof Error ? error.message : String(error),
    }));
    const reading = { epoch, position };
    this.#reading = reading;
    void position.finally(() => {
      if (this.#reading === reading) this.#reading = undefined;
    });
    return position;
  }

  #answer(epoch: number, position: Exclude<PositionSeen, { kind: 'busy' }>): Fenced {
    const { standing, grantRemainingMs } = this.#options;
    const member: MemberIdentity = standing.identity;
    return {
      member,
      epoch,
      position: position.kind === 'known' ? { timeline: position.timeline, lsn: position.lsn } : null,
      problem: position.kind === 'known' ? '' : position.problem,
      leaseRemainingMs: grantRemainingMs(),
      stopped: true,
      systemIdentifier: standing.promise.systemIdentifier,
    };
  }

  #refusal(code: FenceRefusal['code'], message: string): FenceRefusal {
    const { promise, promiseAgeMs } = this.#options.standing;
    return { code, message, promise: { epoch: promise.epoch, grantee: promise.grantee, ageMs: promiseAgeMs } };
  }
}
