/**
 * Looks for the backend that a request runs on: chooses among members, waits for a connection, and, where the primary is away,
 * waits until there is one again (authority/hold.ts). Not a byte of the request has been sent while it looks, so it may look again.
 * Leaves to others: the choice (exec/member-choice.ts), who gets a connection first (pool/), what is done with it (loan.ts).
 */
import type { Held } from '../authority/hold.ts';
import type { Lease } from '../authority/lease.ts';
import { type Demand, judge } from '../consistency/demand.ts';
import { FollowerRead } from '../consistency/follower-read.ts';
import type { SessionPositions } from '../consistency/session-positions.ts';
import type { ShardPositions } from '../consistency/shard-positions.ts';
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import { type ChosenMember, chooseMembers } from '../exec/member-choice.ts';
import { type Route, shardReadAt } from '../exec/route.ts';
import type { ClusterMap, MemberView } from '../map/map.ts';
import type { Backend } from '../pool/backend.ts';
import { MemberRefusal, RoleChanged } from '../pool/connect.ts';
import { Expelled, type Pool, type Wish } from '../pool/pool.ts';
import { borrowError } from './loss.ts';

export interface Found {
  /** At a follower, where something is asked of it. */
  readonly read: FollowerRead | undefined;
  readonly backend: Backend;
  readonly pool: Pool;
  readonly chosen: ChosenMember;
  /** Under which its answers count; undefined where nothing that is asked of it needs one. */
  readonly lease: Lease | undefined;
}

export interface Wanted {
  readonly route: Route;
  readonly role: string;
  /** Whose limits it is under. */
  readonly tenant: string | undefined;
  readonly bytes: number;
  readonly wish: Wish;
  /** Follower that served the session's last read of that shard. */
  readonly previous: string | undefined;
  /** What the session has seen: what its reads must see. */
  readonly positions: SessionPositions;
  /** A follower was tried, and couldn't keep the read's promise: only the primary will. */
  readonly avoidsFollowers: boolean;
  readonly whenBehind: 'primary' | 'error';
  /** Its answer can be withheld until it is shown to be durable. */
  readonly mayBeProven: boolean;
  map(): ClusterMap;
  /** Called once, with one of the two; at once where a backend is idle. */
  found(found: Found): void;
  failed(error: RouterError): void;
}

type DemandOf = (member: MemberView) => Demand | undefined;

/** A primary that acknowledges nothing for so long loses its lease. */
const acknowledgedWithinMs = 3_000;
const lookAgainMs = 10;

/** As far as is known of its last run: a member of which nothing is known may be asked. */
const mayMeet = (positions: ShardPositions, member: string, demand: Demand): boolean =>
  judge(positions, positions.lastRunOf(member) ?? { member, postmaster: '' }, demand) !== 'unmet';

export class Search {
  readonly #context: RouterContext;
  #wanted: Wanted;
  readonly #held: Held;
  #stop: (() => void) | undefined;
  #isOver = false;
  #aheadSinceMs: number | undefined;

  constructor(context: RouterContext, wanted: Wanted) {
    this.#context = context;
    this.#wanted = wanted;
    this.#held = {
      bytes: wanted.bytes,
      why: '',
      go: () => this.look(),
      fail: (error) => this.#fail(error),
    };
  }

  stop(): void {
    this.#isOver = true;
    this.#stop?.();
    this.#stop = undefined;
  }

  look(): void {
    this.#stop = undefined;
    if (this.#isOver) return;
    const { route, previous } = this.#wanted;
    const { authority, pools, region } = this.#context;
    try {
      const map = this.#wanted.map();
      const candidates = chooseMembers(route, {
        map,
        region,
        isReachable: (member) => pools.isReachable(member),
        isClosed: (member) => authority.isClosed(member),
        previous,
        inFlight: (member) => pools.busyAt(member),
      });
      const demandOf = this.#demands(map);
      if (!route.primaryOnly) {
        const isAnything = candidates.every(({ member }) => demandOf(member) === undefined);
        if (isAnything) return this.#borrow(candidates, 0, demandOf);
        const readers = candidates.filter((candidate) => this.#mayRead(candidate, demandOf(candidate.member)));
        if (readers.length > 0) return this.#borrow(readers, 0, demandOf);
        if (this.#wanted.whenBehind === 'error') return this.#fail(behind(route));
      }
      const primaries = candidates.filter(({ isPrimary }) => isPrimary);
      const open = primaries.filter(({ member }) => this.#mayGo(member, demandOf(member)?.floor.epoch ?? 0));
      const shown = open.filter(({ member }) => demandOf(member)?.isAhead !== true);
      if (shown.length > 0) return this.#borrow(shown, 0, demandOf);
      if (open.length > 0) return this.#awaitAcknowledged();
      const member = primaries[0]?.member;
      if (member === undefined) throw new RouterError('NoMember', `shard "${route.shard}" has no primary now`);
      this.#wait(member.shard, `the primary of shard "${member.shard}", member "${member.name}", is not open now`);
    } catch (error) {
      if (!(error instanceof RouterError)) throw error;
      const shards = this.#wanted.map().shards;
      const shard = route.shard ?? shards.keys().next().value;
      if (error.code !== 'NoMember' || shard === undefined || !shards.has(shard)) return this.#fail(error);
      this.#wait(shard, error.message);
    }
  }

  /**
   * What a read of another level than strong asks of whoever serves it, by its shard. @throws RouterError where what the session has seen
   * may be lost: said once, and from then on it goes by what is left.
   */
  #demands(map: ClusterMap): DemandOf {
    const { route, positions, mayBeProven } = this.#wanted;
    const { level, maxStalenessMs, primaryOnly } = route;
    const demands = new Map<string, Demand>();
    return ({ shard: memberShard }) => {
      const shard = shardReadAt(route, memberShard);
      if (primaryOnly || shard === undefined || level === 'strong') return undefined;
      let demand = demands.get(shard);
      if (demand !== undefined) return demand;
      demand = { ...positions.demand(shard, level, maxStalenessMs), mayBeProven };
      if (level === 'causal' && positions.takeLoss(shard, map.shards.get(shard)?.epoch ?? 0))
        throw new RouterError('MayBeLost', `what this session has seen of shard "${shard}" may be lost`);
      demands.set(shard, demand);
      return demand;
    };
  }

  #mayRead({ member, isPrimary }: ChosenMember, demand: Demand | undefined): boolean {
    if (isPrimary || this.#wanted.avoidsFollowers || demand === undefined) return false;
    return mayMeet(this.#context.authority.positions.of(member.shard), member.name, demand);
  }

  /**
   * Followers have shown the session what its primary may not show yet: a commit is seen there once it was acknowledged, which is known
   * with the next word of its agent.
   */
  #awaitAcknowledged(): void {
    const nowMs = performance.now();
    this.#aheadSinceMs ??= nowMs;
    if (nowMs - this.#aheadSinceMs > acknowledgedWithinMs) return this.#fail(behind(this.#wanted.route));
    const timer = setTimeout(() => this.look(), lookAgainMs);
    this.#stop = () => clearTimeout(timer);
  }

  /** Those who wait already go first, but for one that has been let go. The primary of an epoch before what was seen isn't one any more. */
  #mayGo({ shard, name }: MemberView, epoch: number): boolean {
    const { authority, hold } = this.#context;
    const lease = authority.leaseOf(name);
    if (lease === undefined || lease.identity.epoch < epoch) return false;
    return this.#held.place !== undefined || !hold.isHolding(shard);
  }

  #wait(shard: string, why: string): void {
    this.#held.why = why;
    this.#stop = this.#context.hold.wait(shard, this.#held);
  }

  #borrow(candidates: readonly ChosenMember[], index: number, demandOf: DemandOf): void {
    const chosen = candidates[index] as ChosenMember;
    const demand = demandOf(chosen.member);
    const { route, role } = this.#wanted;
    const { authority, hold, pools } = this.#context;
    const { shard, name } = chosen.member;
    const pool = pools.of(name, role);
    this.#stop = undefined;
    const taker = {
      give: (backend: Backend) => {
        this.#stop = undefined;
        if (chosen.isPrimary) hold.calm(shard);
        const needsLease = route.primaryOnly || (demand !== undefined && chosen.isPrimary);
        const lease = needsLease ? authority.leaseOf(name) : undefined;
        // While it waited for a connection the lease ran out.
        if (needsLease && lease === undefined) {
          pool.giveBack(backend);
          return this.look();
        }
        const read = demand === undefined || chosen.isPrimary ? undefined : this.#readAt(backend, chosen, demand);
        if (read?.verdict === 'unmet') {
          pool.giveBack(backend);
          if (index + 1 < candidates.length) return this.#borrow(candidates, index + 1, demandOf);
          this.#wanted = { ...this.#wanted, avoidsFollowers: true };
          return this.look();
        }
        this.#isOver = true;
        this.#wanted.found({ backend, pool, chosen, lease, read });
      },
      fail: (error: Error) => {
        this.#stop = undefined;
        // Not a byte was sent: the next best may serve.
        if (!(error instanceof RouterError) && index + 1 < candidates.length)
          return this.#borrow(candidates, index + 1, demandOf);
        if (demand !== undefined && !chosen.isPrimary && !(error instanceof RouterError)) {
          this.#wanted = { ...this.#wanted, avoidsFollowers: true };
          return this.look();
        }
        if (error instanceof Expelled) return this.look();
        if (!(route.primaryOnly || demand !== undefined) || !isPassing(error))
          return this.#fail(borrowError(error, chosen));
        hold.troubled(shard);
        this.#wait(shard, borrowError(error, chosen).message);
      },
    };
    const { tenant, wish } = this.#wanted;
    const stop = this.#context.limits.take(role, tenant, pool, taker, wish);
    if (!this.#isOver) this.#stop ??= stop;
  }

  /** What is known of a member is known of one run of its Postgres: this backend may be of another. */
  #readAt({ identity }: Backend, { member }: ChosenMember, demand: Demand): FollowerRead {
    const place = { member: member.name, postmaster: identity.postmaster };
    return new FollowerRead(this.#context.authority.positions.of(member.shard), place, demand);
  }

  #fail(error: RouterError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#wanted.failed(error);
  }
}

const behind = ({ shard, level }: Route): RouterError =>
  new RouterError('Behind', `no follower of shard "${shard}" can serve this ${level} read now`);

/** The member is on its way up or down ("cannot_connect_now", "admin_shutdown"), or couldn't be reached at all. */
function isPassing(error: Error): boolean {
  if (error instanceof RouterError || error instanceof RoleChanged) return false;
  return !(error instanceof MemberRefusal) || ['57P03', '57P01', '57P02'].includes(error.sqlstate);
}

/** Who would be looked for first, if the route came now: for EXPLAIN (ROUTE). @throws RouterError */
export function presentMembers(
  { authority, pools, region }: RouterContext,
  map: ClusterMap,
  route: Route,
  seen: SessionPositions,
): readonly ChosenMember[] {
  const candidates = chooseMembers(route, {
    map,
    region,
    isReachable: (member) => pools.isReachable(member),
    isClosed: (member) => authority.isClosed(member),
    previous: undefined,
  });
  const { level, primaryOnly, maxStalenessMs } = route;
  if (primaryOnly || level === 'strong') return candidates;
  return candidates.filter(({ member, isPrimary }) => {
    const shard = shardReadAt(route, member.shard);
    if (isPrimary || shard === undefined) return true;
    const demand = { ...seen.demand(shard, level, maxStalenessMs), mayBeProven: true };
    return mayMeet(authority.positions.of(shard), member.name, demand);
  });
}
