/**
 * The start gate: remembers for which epoch the record named this member, and for how long that may be relied on. A
 * confirmation opens Postgres, it doesn't keep it open: what ends an open primary is the fence and the lease. Ages are on
 * the boot-time clock, which a suspended machine doesn't stop.
 */
import { bootTimeMs } from '#clock/boot-time.ts';
import type { MemberIdentity } from '#core/identity.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { type AuthoritySource, confirmAuthority } from './source.ts';

export interface SeenAuthority {
  readonly epoch: number;
  readonly member: MemberIdentity;
}

/** A confirmation this old is asked for again before a closed Postgres is opened. */
const CONFIRMATION_MS = 5_000;

export class StartGate {
  readonly #source: AuthoritySource;
  readonly #now: () => number;
  #confirmed: { readonly epoch: number; readonly at: number } | undefined;
  #unreadableAt: number | undefined;
  #seen: SeenAuthority | undefined;

  constructor(source: AuthoritySource, now: () => number = bootTimeMs) {
    this.#source = source;
    this.#now = now;
  }

  /** The epoch that is confirmed, 0 for none. `hasStood`: Postgres was started or opened on it and has run since. */
  confirmedEpoch(hasStood: boolean): number {
    if (this.#confirmed === undefined) return 0;
    return hasStood || this.#now() - this.#confirmed.at < CONFIRMATION_MS ? this.#confirmed.epoch : 0;
  }

  /** The record was asked for lately and could not be read: whatever else confirms an authority may stand in for it. */
  get isUnreadable(): boolean {
    return this.#unreadableAt !== undefined && this.#now() - this.#unreadableAt < CONFIRMATION_MS;
  }

  /** Whom the record named when it was last read. */
  get seen(): SeenAuthority | undefined {
    return this.#seen;
  }

  /**
   * While the record can't be read: k grants for exactly this epoch and generation were just seen, so that no enough set of
   * members can have ended it (docs/design-traps.md, ambiguity 16).
   */
  confirmByGrants(epoch: number): void {
    if (this.isUnreadable) this.#confirmed = { epoch, at: this.#now() };
  }

  forget(): void {
    this.#confirmed = undefined;
    this.#unreadableAt = undefined;
  }

  /** Asks the record. Undefined when it names this member at this epoch; else why the gate stays shut. */
  async confirm(orders: Orders, member: MemberIdentity): Promise<string | undefined> {
    // The age counts from before the question: the answer may be as old as that.
    const at = this.#now();
    try {
      const { epoch, timeline } = orders;
      const wanted = { shardUid: orders.shard.uid, member, epoch, ...(timeline > 0 ? { timeline } : {}) };
      const shard = await this.#source.read();
      this.#unreadableAt = undefined;
      const named = shard?.metadata.uid === orders.shard.uid ? shard.status?.authority : undefined;
      if (named !== undefined) {
        this.#seen = { epoch: named.epoch, member: { name: named.member, incarnation: named.incarnation } };
      }
      const answer = confirmAuthority(shard, wanted);
      this.#confirmed = answer.confirmed ? { epoch, at } : undefined;
      return answer.confirmed ? undefined : answer.reason;
    } catch (error) {
      this.#unreadableAt = this.#now();
      return error instanceof Error ? error.message : String(error);
    }
  }
}
