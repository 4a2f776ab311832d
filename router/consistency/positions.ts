/** Of every shard of the map, what its members have seen; and the name by which tokens know a shard. One for each worker. */
import { shardIdentity } from '#core/consistency/token.ts';
import type { LeaseWatch } from '../authority/lease.ts';
import type { ClusterMap } from '../map/map.ts';
import { ShardPositions } from './shard-positions.ts';

interface Entry {
  /** In tokens. */
  readonly identity: string;
  readonly positions: ShardPositions;
}

export class Positions {
  readonly #watch: LeaseWatch;
  readonly #shards = new Map<string, Entry>();

  constructor(watch: LeaseWatch) {
    this.#watch = watch;
  }

  /** A shard made anew under an old name starts without a memory. */
  follow({ shards }: ClusterMap): void {
    for (const [name, { positions, identity }] of this.#shards) {
      const view = shards.get(name);
      if (view !== undefined && shardIdentity(view.uid ?? view.name) === identity) continue;
      positions.forget();
      this.#shards.delete(name);
    }
    for (const [name, { uid, history }] of shards) {
      let entry = this.#shards.get(name);
      if (entry === undefined) {
        entry = { identity: shardIdentity(uid ?? name), positions: new ShardPositions(this.#watch) };
        this.#shards.set(name, entry);
      }
      if (history !== undefined) entry.positions.learnHistory(history);
    }
  }

  of(shard: string): ShardPositions {
    return this.#entry(shard).positions;
  }

  /** As tokens name it. */
  identityOf(shard: string): string {
    return this.#entry(shard).identity;
  }

  #entry(shard: string): Entry {
    const entry = this.#shards.get(shard);
    if (entry === undefined) throw new Error(`no shard ${shard}`);
    return entry;
  }
}
