/**
 * What this process has placed and the cache doesn't show yet: so that two tenants looked at together aren't both counted as the
 * first on the same shard, and two Tenants with one key are never both placed.
 * Only the leader places, so what other processes placed is in the cache, which was filled when leading began.
 */

interface Placed {
  readonly shard: string;
  readonly key: string;
}

export interface TenantIdentity {
  readonly uid: string;
  readonly key: string;
}

interface Claims {
  /** Counts placements and withdrawals: a choice made on an older count is stale. */
  version: number;
  readonly placed: Map<string, Placed>;
}

export class Placements {
  readonly #keyspaces = new Map<string, Claims>();

  /** The number of changes so far. */
  version(keyspace: string): number {
    return this.#claims(keyspace).version;
  }

  /** Placements of this process, without those that `isVisible` says are known anyway. */
  pending(keyspace: string, isVisible: (uid: string) => boolean): ReadonlyMap<string, Placed> {
    const { placed } = this.#claims(keyspace);
    for (const uid of placed.keys()) if (isVisible(uid)) placed.delete(uid);
    return placed;
  }

  /** Takes a place, unless somebody was placed since `version` was read or the key is taken. */
  claim(keyspace: string, tenant: TenantIdentity, shard: string, version: number): boolean {
    const claims = this.#claims(keyspace);
    if (claims.version !== version) return false;
    for (const [uid, { key }] of claims.placed) if (key === tenant.key && uid !== tenant.uid) return false;
    claims.version++;
    claims.placed.set(tenant.uid, { shard, key: tenant.key });
    return true;
  }

  /** The record was surely not written. */
  withdraw(keyspace: string, uid: string): void {
    const claims = this.#claims(keyspace);
    if (claims.placed.delete(uid)) claims.version++;
  }

  #claims(keyspace: string): Claims {
    const found = this.#keyspaces.get(keyspace);
    if (found !== undefined) return found;
    const made: Claims = { version: 0, placed: new Map() };
    this.#keyspaces.set(keyspace, made);
    return made;
  }
}
