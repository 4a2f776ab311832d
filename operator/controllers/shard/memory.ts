/**
 * What the shard controller remembers between rounds, in this process only. Losing it (a restart, another leader) costs time,
 * never safety: positions are read again, and absence is counted from the beginning.
 */
import type { MemberIdentity } from '#core/identity.ts';
import type { Lsn } from '#core/lsn.ts';
import { identityOf, type MemberView } from './members.ts';
import { isStranger } from './orders.ts';

/** A position of the primary's log, read after its Postgres was shown to work by certain orders. */
export interface NotedPosition {
  /** Term in which it was noted: in between, another leader may have given other orders. */
  readonly leaderTerm: number;
  /** Digest of the orders that were in effect. */
  readonly digest: string;
  readonly position: Lsn;
}

/** How often the lag in a Shard's status may change: every write of it is one more that a failover may have to repeat. */
const lagEveryMs = 10_000;

interface OfShard {
  noted: NotedPosition | undefined;
  lag: { readonly shown: string | undefined; readonly sinceMs: number } | undefined;
  readonly awaySinceMs: Map<string, number>;
  /** Who answered last, by name; undefined for one that has promised another shard. */
  readonly identities: Map<string, MemberIdentity | undefined>;
}

export class ShardMemory {
  readonly #shards = new Map<string, OfShard>();

  noted(shardUid: string): NotedPosition | undefined {
    return this.#shards.get(shardUid)?.noted;
  }

  note(shardUid: string, position: NotedPosition | undefined): void {
    this.#of(shardUid).noted = position;
  }

  /**
   * For how long each of these members has been away; the others are forgotten.
   * @param nowMs By a monotonic clock: a wall clock put forward would have members dropped that were away for a moment.
   */
  away(shardUid: string, names: readonly string[], nowMs: number): ReadonlyMap<string, number> {
    const { awaySinceMs } = this.#of(shardUid);
    for (const name of awaySinceMs.keys()) if (!names.includes(name)) awaySinceMs.delete(name);
    for (const name of names) if (!awaySinceMs.has(name)) awaySinceMs.set(name, nowMs);
    return new Map([...awaySinceMs].map(([name, since]) => [name, nowMs - since]));
  }

  /** @param shown What the status says now; by a monotonic clock. */
  lagMayChange(shardUid: string, shown: string | undefined, nowMs: number): boolean {
    const memory = this.#of(shardUid);
    // A new leader hasn't seen when it was written: it counts from its own first look.
    if (memory.lag === undefined || memory.lag.shown !== shown) memory.lag = { shown, sinceMs: nowMs };
    return shown === undefined || nowMs - memory.lag.sinceMs >= lagEveryMs;
  }

  /**
   * The views, with who a silent member was when it last answered here. That is newer than what RegionalReplicas say, which
   * is written after us: a volume made anew must not be taken for the former one because one answer is late.
   */
  recall(shardUid: string, views: readonly MemberView[]): MemberView[] {
    const { identities } = this.#of(shardUid);
    for (const name of identities.keys()) if (!views.some((view) => view.name === name)) identities.delete(name);
    return views.map((view) => {
      const member = identityOf(view);
      if (member !== undefined) identities.set(view.name, isStranger(view, shardUid) ? undefined : member);
      // The identity is on the volume: a new one has another.
      else if (view.volume !== 'bound') identities.delete(view.name);
      return { ...view, lastKnown: identities.has(view.name) ? identities.get(view.name) : view.lastKnown };
    });
  }

  #of(shardUid: string): OfShard {
    let memory = this.#shards.get(shardUid);
    if (memory === undefined) {
      memory = { noted: undefined, lag: undefined, awaySinceMs: new Map(), identities: new Map() };
      this.#shards.set(shardUid, memory);
    }
    return memory;
  }
}
