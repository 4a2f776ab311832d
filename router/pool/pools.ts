/**
 * Every pool of this worker, by member and role; made on demand, dropped when unused. Also what is known of members' health
 * from connecting to them, which the choice among followers uses.
 */
import type { SecureContext } from 'node:tls';
import type { ClusterMap } from '../map/map.ts';
import type { Backend } from './backend.ts';
import { connectToMember } from './connect.ts';
import { Pool, type PoolLimits } from './pool.ts';
import { Tally } from './tally.ts';

export interface PoolsOptions {
  readonly map: () => ClusterMap | undefined;
  readonly clientContext: () => SecureContext;
  /** What the role may act for: backends opened before it changed aren't used again. */
  readonly reachOf: (role: string) => string;
  /** The one tenant that the role acts for; undefined where sessions choose. */
  readonly fixedTenantOf: (role: string) => string | undefined;
  readonly connectTimeoutMs: number;
  readonly limits: Omit<PoolLimits, 'size'>;
  readonly now: () => number;
  /** Event loops that share a role's connections to a member: each has its part. */
  readonly workers: number;
  /** Pools that may exist at once; beyond it unused ones are dropped first. */
  readonly maxPools: number;
}

/** A member's generation, and what it was made of. */
interface Known {
  readonly map: ClusterMap | undefined;
  readonly reach: string | undefined;
  readonly generation: string | undefined;
}

/** How long a member that couldn't be reached is passed over where another can serve. */
const unreachableMs = 2_000;

/** Changes whenever the member's authority does, so that sessions of before aren't lent again. */
export function memberGeneration(map: ClusterMap | undefined, member: string): string | undefined {
  const view = map?.members.get(member);
  if (view === undefined) return undefined;
  const shard = map?.shards.get(view.shard);
  const isPrimary = shard?.primary === member;
  return `${view.address}:${view.port} ${isPrimary ? `primary ${shard.epoch}` : 'follower'}`;
}

export class Pools {
  readonly #options: PoolsOptions;
  readonly #pools = new Set<Pool>();
  readonly #byMember = new Map<string, Map<string, Pool>>();
  readonly #unreachableUntilMs = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;
  #isPaused = false;
  readonly tally = new Tally();

  constructor(options: PoolsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.sweep(), 5_000);
    this.#timer.unref();
  }

  of(member: string, role: string): Pool {
    const present = this.#byMember.get(member)?.get(role);
    if (present !== undefined) return present;
    if (this.#pools.size >= this.#options.maxPools) this.#dropUnused();
    const pool = this.#make(member, role);
    this.#pools.add(pool);
    let byRole = this.#byMember.get(member);
    if (byRole === undefined) {
      byRole = new Map();
      this.#byMember.set(member, byRole);
    }
    byRole.set(role, pool);
    return pool;
  }

  isReachable(member: string): boolean {
    return (this.#unreachableUntilMs.get(member) ?? 0) <= this.#options.now();
  }

  /** Sums over all pools, for metrics. */
  get counts(): { pools: number; idle: number; busy: number; kept: number; opening: number; waiting: number } {
    const sum = { pools: this.#pools.size, idle: 0, busy: 0, kept: 0, opening: 0, waiting: 0 };
    for (const pool of this.#pools) {
      const { idle, busy, kept, opening, waiting } = pool.counts;
      sum.idle += idle;
      sum.busy += busy;
      sum.kept += kept;
      sum.opening += opening;
      sum.waiting += waiting;
    }
    return sum;
  }

  /** Connections of this member that are lent (but for those kept by sessions that run nothing), or being cleaned after it. */
  busyAt(member: string): number {
    let busy = 0;
    for (const pool of this.#at(member)) busy += pool.counts.busy;
    return busy;
  }

  /** A shard has a newer epoch: what was opened to its primaries of before is cut. Returns how many connections. */
  cut(shard: string, epoch: number): number {
    const map = this.#options.map();
    let count = 0;
    for (const pool of this.#pools) if (map?.members.get(pool.member)?.shard === shard) count += pool.cut(epoch);
    return count;
  }

  /** Whoever waits for a connection to this member looks again. */
  expel(member: string): void {
    for (const pool of this.#at(member)) pool.expel();
  }

  /** For those who administer the router. */
  get all(): Iterable<Pool> {
    return this.#pools;
  }

  renew(): void {
    for (const pool of this.#pools) pool.renew();
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Nothing is lent from now on; what is lent ends with its transaction. */
  pause(): void {
    this.#isPaused = true;
    for (const pool of this.#pools) pool.pause();
  }

  resume(): void {
    this.#isPaused = false;
    for (const pool of this.#pools) pool.resume();
  }

  sweep(): void {
    for (const pool of this.#pools) pool.sweep();
    this.#dropUnused();
  }

  close(): void {
    clearInterval(this.#timer);
    for (const pool of this.#pools) pool.close();
  }

  /** With thousands of roles many have a connection that they don't use now, and the member can't take one for each. */
  #makeRoom(member: string, asking: Pool): boolean {
    let oldest: Backend | undefined;
    for (const pool of this.#pools) {
      const idle = pool === asking || pool.member !== member ? undefined : pool.oldestIdle;
      if (idle !== undefined && (oldest === undefined || idle.idleSinceMs < oldest.idleSinceMs)) oldest = idle;
    }
    oldest?.close('others have more use for it');
    return oldest !== undefined;
  }

  #at(member: string): Iterable<Pool> {
    return this.#byMember.get(member)?.values() ?? [];
  }

  #dropUnused(): void {
    for (const pool of this.#pools) {
      if (!pool.isUnused) continue;
      this.#pools.delete(pool);
      const byRole = this.#byMember.get(pool.member);
      byRole?.delete(pool.role);
      if (byRole?.size === 0) this.#byMember.delete(pool.member);
    }
  }

  #make(member: string, role: string): Pool {
    const options = this.#options;
    const isPaused = (): boolean => this.#isPaused;
    const { tally } = this;
    let known: Known = { map: undefined, reach: undefined, generation: undefined };
    let limits: PoolLimits = { ...options.limits, size: 0 };
    return new Pool({
      member,
      role,
      now: options.now,
      tally,
      get isPaused() {
        return isPaused();
      },
      generation: () => {
        const map = options.map();
        const reach = options.reachOf(role);
        // Asked several times for each statement.
        if (map !== known.map || reach !== known.reach) {
          const generation = memberGeneration(map, member);
          known = { map, reach, generation: generation === undefined ? undefined : `${generation} ${reach}` };
        }
        return known.generation;
      },
      primaryEpoch: () => {
        const view = options.map()?.members.get(member);
        const shard = view === undefined ? undefined : options.map()?.shards.get(view.shard);
        return shard?.primary === member ? shard.epoch : 0;
      },
      limits: () => {
        const size = Math.max(1, Math.floor((options.map()?.keyspace.poolSize ?? 1) / options.workers));
        const isOfOneTenant = options.fixedTenantOf(role) !== undefined;
        if (size !== limits.size || isOfOneTenant !== limits.isOfOneTenant)
          limits = { ...options.limits, size, isOfOneTenant };
        return limits;
      },
      connect: async () => {
        const map = options.map();
        const view = map?.members.get(member);
        if (map === undefined || view === undefined) throw new Error(`member ${member} is gone`);
        return connectToMember({
          member: view,
          role,
          database: map.keyspace.database,
          context: options.clientContext(),
          timeoutMs: options.connectTimeoutMs,
          fixedTenant: options.fixedTenantOf(role) ?? null,
        });
      },
      makeRoom: (asking) => this.#makeRoom(member, asking),
      reached: (error) => {
        if (error === undefined) this.#unreachableUntilMs.delete(member);
        else this.#unreachableUntilMs.set(member, options.now() + unreachableMs);
      },
    });
  }
}
