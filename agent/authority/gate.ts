/**
 * The start gate: remembers for which epoch the record named this member, and for how long that may be relied on. A
 * confirmation opens Postgres, it doesn't keep it open: what ends an open primary is the fence and the lease.
 */
import type { MemberIdentity } from '#core/identity.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { type AuthoritySource, confirmAuthority } from './source.ts';

/** A confirmation this old is asked for again before a closed Postgres is opened. */
const CONFIRMATION_MS = 5_000;

export class StartGate {
  readonly #source: AuthoritySource;
  readonly #now: () => number;
  #confirmed: { readonly epoch: number; readonly at: number } | undefined;

  constructor(source: AuthoritySource, now: () => number = () => performance.now()) {
    this.#source = source;
    this.#now = now;
  }

  /** The epoch that is confirmed, 0 for none. `isOpen`: Postgres was opened on it and has run since. */
  confirmedEpoch(isOpen: boolean): number {
    if (this.#confirmed === undefined) return 0;
    return isOpen || this.#now() - this.#confirmed.at < CONFIRMATION_MS ? this.#confirmed.epoch : 0;
  }

  forget(): void {
    this.#confirmed = undefined;
  }

  /** Asks the record. Undefined when it names this member at this epoch; else why the gate stays shut. */
  async confirm(orders: Orders, member: MemberIdentity): Promise<string | undefined> {
    // The age counts from before the question: the answer may be as old as that.
    const at = this.#now();
    try {
      const wanted = { shardUid: orders.shard.uid, member, epoch: orders.epoch };
      const answer = confirmAuthority(await this.#source.read(), wanted);
      this.#confirmed = answer.confirmed ? { epoch: orders.epoch, at } : undefined;
      return answer.confirmed ? undefined : answer.reason;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }
}
