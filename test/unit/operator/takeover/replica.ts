/**
 * An operator replica in the model world: the real service, watch, attempts and promotions. Every call to the world takes a
 * little time, and may be this replica's last (before it takes effect, or after), or be followed by a long standstill.
 */
import assert from 'node:assert/strict';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { replicationName } from '#core/identity.ts';
import { formatLsn, type Lsn } from '#core/lsn.ts';
import type { KubeApi } from '#kube/client.ts';
import { ApiError } from '#kube/errors.ts';
import type { EventNote } from '#kube/events.ts';
import type { KubeObject, Stored } from '#kube/objects.ts';
import { fencedNames } from '#operator/controllers/shard/fencing.ts';
import type { MemberView } from '#operator/controllers/shard/members.ts';
import type { OrdersWish } from '#operator/controllers/shard/orders.ts';
import type { Cache } from '#operator/runtime/controller.ts';
import type { AttemptMeans } from '#operator/takeover/attempt.ts';
import { AuthorityWatch } from '#operator/takeover/authority-watch.ts';
import type { HeardPosition } from '#operator/takeover/last-heard.ts';
import { ShardLeaseWatch } from '#operator/takeover/lease-watch.ts';
import type { PromotionMeans } from '#operator/takeover/promotion.ts';
import { TakeoverService } from '#operator/takeover/service.ts';
import { World } from './world.ts';

export interface ReplicaFault {
  /** Which call to the world, from 1. */
  readonly atCall: number;
  readonly kind: 'DiesBefore' | 'DiesAfter' | 'StandsStill';
}

export interface ReplicaOptions {
  readonly name?: string;
  readonly rank?: () => number;
  readonly isLedByAnother?: boolean;
  readonly fault?: ReplicaFault;
  readonly latencyMs?: () => number;
  readonly othersReaching?: () => readonly string[];
}

const standstillMs = 20_000;

export class Replica {
  readonly service: TakeoverService;
  readonly events: EventNote[] = [];
  /** Names of the calls made, for the tests that enumerate them. */
  readonly calls: string[] = [];
  /** When each was made. */
  readonly calledAtMs: number[] = [];
  readonly metrics = new Registry();
  isDead = false;
  resigned = 0;
  /** What its watch shows instead of what is. */
  staleShard: Stored<KubeObject> | undefined;
  readonly #worlds: readonly World[];
  /** The first; they share their time. */
  readonly #world: World;
  readonly #options: ReplicaOptions;
  readonly #end = new AbortController();
  readonly #heard = new Map<string, HeardPosition>();
  #stillUntilMs = 0;

  /** For tests that only need it to be there. */
  static start(world: World, options: ReplicaOptions = {}): Replica {
    return new Replica(world, options);
  }

  /** @param worlds The shards that it watches. */
  constructor(worlds: World | readonly World[], options: ReplicaOptions = {}) {
    this.#worlds = worlds instanceof World ? [worlds] : worlds;
    const [world] = this.#worlds;
    assert.ok(world !== undefined);
    this.#world = world;
    this.#options = options;
    const nowMs = (): number => world.time.nowMs;
    const watch: AuthorityWatch = new AuthorityWatch({
      ask: async ({ name, address }) => {
        await this.#way();
        const answer = address === undefined ? undefined : this.#worldWith(name).answer(name);
        await this.#way();
        return answer === undefined ? { kind: 'silent', why: 'no answer' } : { kind: 'answer', answer };
      },
      nowMs,
      timeoutMs: 800,
      pause: this.#pause,
    });
    this.service = new TakeoverService({
      cache: this.#cache(),
      watch,
      means: {
        pause: this.#pause,
        hear: (shard, record) => {
          const { name, incarnation, log, timeline } = this.#worldOf(shard).member(record.authority.member);
          const lsn = formatLsn(BigInt(log.length) as Lsn);
          this.#heard.set(replicationName({ name, incarnation }), { timeline, lsn });
        },
        keepOnly: () => undefined,
        leaseWatch: ({ metadata }) =>
          new ShardLeaseWatch(this.#leaseApi(), { namespace: metadata.namespace ?? '', name: metadata.name }, nowMs),
        ofAttempt: (shard, lease, intent) => ({
          ...this.#attemptMeans(this.#worldOf(shard), lease),
          candidates: (present) =>
            [...this.#worldOf(shard).members.values()].map(({ name, region, promotable }) => ({
              name,
              region,
              promotable:
                promotable &&
                !fencedNames(present).has(name) &&
                (intent.kind !== 'Recover' || intent.wanted === undefined || intent.wanted.name === name),
            })),
          ping: async (record) => {
            await this.#call('ping', () => undefined);
            await watch.askAnew(asked(this.#worldOf(shard)));
            return watch.pings(record, shard.metadata);
          },
        }),
        ofPromotion: (shard, record) => this.#promotionMeans(this.#worldOf(shard), record, watch),
      },
      heartbeats: {
        get rank() {
          return options.rank?.() ?? 0;
        },
        isLedByAnother: options.isLedByAnother ?? false,
        beatSoon: () => undefined,
        othersReaching: () => options.othersReaching?.() ?? [],
      },
      resign: () => {
        this.resigned += 1;
        return true;
      },
      recorder: { record: (_about, note) => void this.events.push(note) },
      log: pino({ level: 'silent' }),
      metrics: this.metrics,
      nowMs,
      signal: this.#end.signal,
    });
    void this.service.run();
  }

  get reasons(): readonly string[] {
    return this.events.map(({ reason }) => reason);
  }

  /** As a pod is told to. */
  end(): void {
    this.#end.abort();
  }

  #worldOf({ metadata }: Stored<KubeObject>): World {
    return this.#worldWith(`${metadata.name}-eu-0`);
  }

  #worldWith(member: string): World {
    const found = this.#worlds.find(({ members }) => members.has(member));
    assert.ok(found !== undefined, member);
    return found;
  }

  #attemptMeans(
    world: World,
    lease: ShardLeaseWatch | undefined,
  ): Omit<AttemptMeans, 'takeTurn' | 'tell' | 'candidates' | 'ping'> {
    return {
      nowMs: () => world.time.nowMs,
      wallClock: () => new Date(world.time.nowMs),
      signal: new AbortController().signal,
      read: () => this.#call('read', () => world.read()),
      write: (shard) => this.#call('write', () => world.write(shard)),
      fence: (member, epoch) => this.#call(`fence ${member.name}`, () => world.fence(member.name, member, epoch)),
      ship: (_record, from, to, epoch) => this.#call('ship', () => world.ship(from.name, to.name, epoch)),
      watchLease: () => lease?.look() ?? Promise.resolve(undefined),
      lookAtLease: () => lease?.lookAnew() ?? Promise.resolve(undefined),
      handLease: async (holder, epoch) => lease?.hand(holder, epoch),
      regions: () => ['eu', 'us', 'ap'],
      heard: (primary) => this.#heard.get(replicationName(primary)),
      distrust: () => undefined,
      pause: this.#pause,
    };
  }

  #promotionMeans(
    world: World,
    record: AuthorityRecord,
    watch: AuthorityWatch,
  ): Omit<PromotionMeans, 'isCurrent' | 'tell'> {
    const { member } = record.authority;
    return {
      nowMs: () => world.time.nowMs,
      signal: new AbortController().signal,
      wished: () =>
        this.#call('status', () =>
          [...world.members.keys()]
            .toSorted((a, b) => Number(b === member) - Number(a === member))
            .filter((name) => world.answer(name) !== undefined)
            .map((name) => ({
              view: { name } as MemberView,
              orders: { role: name === member ? 'Primary' : 'Follower' } as OrdersWish,
              digest: '',
            })),
        ),
      send: ({ view }) =>
        this.#call(`order ${view.name}`, () => {
          const taken = world.order(view.name);
          return taken === 'taken' ? { kind: 'taken' as const } : { kind: 'unknown' as const, why: taken };
        }),
      chosen: async () => {
        await watch.ask(asked(world), 100);
        return [...watch.pings(record, world.shard.metadata)].find(([name]) => name.startsWith(`${member}/`))?.[1];
      },
      pause: this.#pause,
    };
  }

  readonly #pause = async (ms: number, sooner?: Promise<unknown>): Promise<void> => {
    const slept = this.#world.time.sleep(ms);
    await (sooner === undefined ? slept : Promise.race([slept, sooner]));
    await this.#alive();
  };

  async #call<T>(name: string, effect: () => T): Promise<T> {
    this.calls.push(name);
    this.calledAtMs.push(this.#world.time.nowMs);
    const fault = this.#options.fault?.atCall === this.calls.length ? this.#options.fault.kind : undefined;
    await this.#way();
    if (fault === 'DiesBefore') this.isDead = true;
    await this.#alive();
    try {
      return effect();
    } finally {
      if (fault === 'DiesAfter') this.isDead = true;
      if (fault === 'StandsStill') this.#stillUntilMs = this.#world.time.nowMs + standstillMs;
      await this.#way();
    }
  }

  async #way(): Promise<void> {
    await this.#world.time.sleep(this.#options.latencyMs?.() ?? 5);
    await this.#alive();
  }

  /** Goes on never, where it is dead; later, where it stands still. */
  async #alive(): Promise<void> {
    if (this.isDead) await new Promise(() => undefined);
    while (this.#world.time.nowMs < this.#stillUntilMs)
      await this.#world.time.sleep(this.#stillUntilMs - this.#world.time.nowMs);
  }

  /** Just what the watch of a Lease needs. */
  #leaseApi(): KubeApi {
    const stored = () => {
      const { holder, version } = this.#world.lease;
      return { metadata: { resourceVersion: String(version) }, spec: { holderIdentity: holder } };
    };
    const update = (lease: ReturnType<typeof stored>) =>
      this.#call('hand the Lease', () => {
        const { metadata, spec } = lease;
        if (!this.#world.takeLease(spec.holderIdentity, Number(metadata.resourceVersion ?? 0)))
          throw new ApiError(409, 'PUT', { message: 'the object has been modified' });
        return stored();
      });
    return {
      of: () => ({ find: () => this.#call('look at the Lease', stored), update, create: update }),
    } as unknown as KubeApi;
  }

  #cache(): Cache {
    const podsOf = (world: World): readonly unknown[] =>
      [...world.members.values()].map(({ name }) => ({
        metadata: {
          namespace: 'test',
          name,
          uid: name,
          labels: { 'meridian.db/shard': world.shard.metadata.name, 'meridian.db/keyspace': 'shop' },
        },
        status: { podIP: '10.0.0.1', phase: 'Running' },
      }));
    const list = (kind: string): readonly unknown[] => {
      if (kind === 'Shard')
        return this.staleShard === undefined ? this.#worlds.map(({ shard }) => shard) : [this.staleShard];
      return kind === 'Pod' ? this.#worlds.flatMap(podsOf) : [];
    };
    return {
      get: () => undefined,
      list: (type) => list(type.kind) as never,
    };
  }
}

const asked = (world: World) =>
  [...world.members.keys()].map((name) => ({
    namespace: 'test',
    keyspace: 'shop',
    shard: world.shard.metadata.name,
    name,
    address: '10.0.0.1',
  }));
