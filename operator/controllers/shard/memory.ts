/**
 * What the shard controller remembers between rounds, in this process only. Losing it (a restart, another leader) costs time,
 * never safety: positions are read again, and absence is counted from the beginning.
 */
import type { Lsn } from '#core/lsn.ts';

/** A position of the primary's log, read after its Postgres was shown to work by certain orders. */
export interface NotedPosition {
  /** Term in which it was noted: in between, another leader may have given other orders. */
  readonly leaderTerm: number;
  /** Digest of the orders that were in effect. */
  readonly digest: string;
  readonly position: Lsn;
}

interface OfShard {
  noted: NotedPosition | undefined;
  readonly awaySinceMs: Map<string, number>;
}

export class ShardMemory {
  readonly #shards = new Map<string, OfShard>();

  noted(shardUid: string): NotedPosition | undefined {
    return this.#shards.get(shardUid)?.noted;
  }

  note(shardUid: string, position: NotedPosition | undefined): void {
    this.#of(shardUid).noted = position;
  }

  /** For how long each of these members has been away; the others are forgotten. */
  away(shardUid: string, names: readonly string[], nowMs: number): ReadonlyMap<string, number> {
    const { awaySinceMs } = this.#of(shardUid);
    for (const name of awaySinceMs.keys()) if (!names.includes(name)) awaySinceMs.delete(name);
    for (const name of names) if (!awaySinceMs.has(name)) awaySinceMs.set(name, nowMs);
    return new Map([...awaySinceMs].map(([name, since]) => [name, nowMs - since]));
  }

  #of(shardUid: string): OfShard {
    let memory = this.#shards.get(shardUid);
    if (memory === undefined) {
      memory = { noted: undefined, awaySinceMs: new Map() };
      this.#shards.set(shardUid, memory);
    }
    return memory;
  }
}
