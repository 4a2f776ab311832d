/**
 * What this process has itself seen done on the shards, so that a reconcile doesn't do it all again: a hint, never a record.
 * It is empty after a start, and entries age: then everything is done again, which changes nothing where nothing had changed.
 * Invariant: an entry is about one primary at one epoch; after a failover nothing here counts.
 */

/** What a shard was brought to. */
export interface ShardEntryOfLedger {
  readonly epoch: number;
  readonly member: string;
  readonly incarnation: string;
  /** Digest of everything the shard was to be given; equal digests mean equal wishes. */
  readonly digest: string;
  readonly applied: number;
  /** By role: digest of the verifiers that the shard accepts, and since when. */
  readonly roles: ReadonlyMap<string, { readonly digest: string; readonly sinceMs: number }>;
  readonly atMs: number;
}

/** After this long everything is looked at again, in case somebody changed a shard by hand. */
export const entryLifeMs = 10 * 60_000;
/**
 * Routers read the verifiers again at least every 10 s; a new password is shown to applications only when every router must have
 * seen that it is accepted.
 */
export const routersLearnMs = 15_000;

export interface PrimaryOfShard {
  readonly uid: string;
  readonly epoch: number;
  readonly member: string;
  readonly incarnation: string;
}

export class ShardLedger {
  readonly #entries = new Map<string, ShardEntryOfLedger>();

  /** What is known about a shard's present primary, unless it is too old. */
  find(shard: PrimaryOfShard, nowMs: number): ShardEntryOfLedger | undefined {
    const entry = this.#entries.get(shard.uid);
    if (entry === undefined || nowMs - entry.atMs >= entryLifeMs) return undefined;
    const same =
      entry.epoch === shard.epoch && entry.member === shard.member && entry.incarnation === shard.incarnation;
    return same ? entry : undefined;
  }

  record(shard: PrimaryOfShard, entry: ShardEntryOfLedger): void {
    this.#entries.set(shard.uid, entry);
  }

  forget(uid: string): void {
    this.#entries.delete(uid);
  }

  /**
   * Since when all these shards accept these verifiers of a role; undefined while one of them isn't known to. A shard's entry counts
   * here however old it is, as long as its primary is the same: what was committed stays.
   */
  acceptedSinceMs(role: string, digest: string, shards: readonly PrimaryOfShard[]): number | undefined {
    let sinceMs = 0;
    for (const shard of shards) {
      const entry = this.#entries.get(shard.uid);
      const accepted = entry?.roles.get(role);
      if (entry?.epoch !== shard.epoch || entry.incarnation !== shard.incarnation || accepted?.digest !== digest)
        return undefined;
      sinceMs = Math.max(sinceMs, accepted.sinceMs);
    }
    return sinceMs;
  }
}
