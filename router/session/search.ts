/**
 * Looks for the backend that a request runs on: chooses among members, waits for a connection, and, where the primary is away,
 * waits until there is one again (authority/hold.ts). Not a byte of the request has been sent while it looks, so it may look again.
 * Leaves to others: the choice (exec/member-choice.ts), who gets a connection first (pool/), what is done with it (loan.ts).
 */
import type { Held } from '../authority/hold.ts';
import type { Lease } from '../authority/lease.ts';
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import { type ChosenMember, chooseMembers } from '../exec/member-choice.ts';
import type { Route } from '../exec/route.ts';
import type { ClusterMap } from '../map/map.ts';
import type { Backend } from '../pool/backend.ts';
import { MemberRefusal, RoleChanged } from '../pool/connect.ts';
import { Expelled, type Pool } from '../pool/pool.ts';
import { borrowError } from './loss.ts';

export interface Found {
  readonly backend: Backend;
  readonly pool: Pool;
  readonly chosen: ChosenMember;
  /** Under which its answers count; undefined where nothing that is asked of it needs one. */
  readonly lease: Lease | undefined;
}

export interface Wanted {
  readonly route: Route;
  readonly role: string;
  readonly bytes: number;
  /** Follower that served the session's last read of that shard. */
  readonly previous: string | undefined;
  map(): ClusterMap;
  /** Called once, with one of the two; at once where a backend is idle. */
  found(found: Found): void;
  failed(error: RouterError): void;
}

export class Search {
  readonly #context: RouterContext;
  readonly #wanted: Wanted;
  readonly #held: Held;
  #stop: (() => void) | undefined;
  #isOver = false;

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
      });
      if (!route.primaryOnly) return this.#borrow(candidates, 0);
      const open = candidates.filter(({ member }) => this.#mayGo(member.shard, member.name));
      if (open.length > 0) return this.#borrow(open, 0);
      const { member } = candidates[0] as ChosenMember;
      this.#wait(member.shard, `the primary of shard "${member.shard}", member "${member.name}", is not open now`);
    } catch (error) {
      if (!(error instanceof RouterError)) throw error;
      const shards = this.#wanted.map().shards;
      const shard = route.shard ?? shards.keys().next().value;
      if (error.code !== 'NoMember' || shard === undefined || !shards.has(shard)) return this.#fail(error);
      this.#wait(shard, error.message);
    }
  }

  /** Those who wait already go first, but for one that has been let go. */
  #mayGo(shard: string, primary: string): boolean {
    const { authority, hold } = this.#context;
    return authority.leaseOf(primary) !== undefined && (this.#held.place !== undefined || !hold.isHolding(shard));
  }

  #wait(shard: string, why: string): void {
    this.#held.why = why;
    this.#stop = this.#context.hold.wait(shard, this.#held);
  }

  #borrow(candidates: readonly ChosenMember[], index: number): void {
    const chosen = candidates[index] as ChosenMember;
    const { route, role } = this.#wanted;
    const { authority, hold, pools } = this.#context;
    const { shard, name } = chosen.member;
    const pool = pools.of(name, role);
    this.#stop = undefined;
    const stop = pool.take({
      give: (backend) => {
        this.#stop = undefined;
        if (chosen.isPrimary) hold.calm(shard);
        const lease = route.primaryOnly ? authority.leaseOf(name) : undefined;
        // While it waited for a connection the lease ran out.
        if (route.primaryOnly && lease === undefined) {
          pool.giveBack(backend);
          return this.look();
        }
        this.#isOver = true;
        this.#wanted.found({ backend, pool, chosen, lease });
      },
      fail: (error) => {
        this.#stop = undefined;
        // Not a byte was sent: the next best may serve.
        if (!(error instanceof RouterError) && index + 1 < candidates.length)
          return this.#borrow(candidates, index + 1);
        if (error instanceof Expelled) return this.look();
        if (!route.primaryOnly || !isPassing(error)) return this.#fail(borrowError(error, chosen));
        hold.troubled(shard);
        this.#wait(shard, borrowError(error, chosen).message);
      },
    });
    if (!this.#isOver) this.#stop ??= stop;
  }

  #fail(error: RouterError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#wanted.failed(error);
  }
}

/** The member is on its way up or down ("cannot_connect_now", "admin_shutdown"), or couldn't be reached at all. */
function isPassing(error: Error): boolean {
  if (error instanceof RouterError || error instanceof RoleChanged) return false;
  return !(error instanceof MemberRefusal) || ['57P03', '57P01', '57P02'].includes(error.sqlstate);
}
