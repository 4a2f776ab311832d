/**
 * How a takeover reaches the world: the API server, the agents over connections of their own, the shared watches.
 * Everything is bounded in time and decides nothing. An agent that can't be asked has been asked and didn't answer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Candidate } from '#core/authority/choose.ts';
import { type AuthorityRecord, primaryOf } from '#core/authority/record.ts';
import { answerOf, type Pings } from '#core/authority/suspicion.ts';
import type { TakeoverIntent } from '#core/authority/takeover.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { ports } from '#core/names.ts';
import type { KubeApi } from '#kube/client.ts';
import { ApiError } from '#kube/errors.ts';
import { type Keyspace, keyspaces, type Shard, shards } from '#kube/meridian.ts';
import { keyOf, type Stored } from '#kube/objects.ts';
import type {
  AgentClient,
  AgentTarget,
  AuthorityReply,
  FenceReply,
  OperatorCredentials,
  OrdersAnswer,
  StatusAnswer,
} from '../agents/client.ts';
import type { CredentialStore } from '../agents/credentials.ts';
import { takeoverOrders } from '../controllers/shard/takeover-orders.ts';
import { contradiction } from '../controllers/shard/trust.ts';
import type { Cache } from '../runtime/controller.ts';
import type { AttemptMeans } from './attempt.ts';
import type { AskedMember, AuthorityWatch } from './authority-watch.ts';
import { LastHeard } from './last-heard.ts';
import { ShardLeaseWatch } from './lease-watch.ts';
import type { PromotionMeans } from './promotion.ts';
import { askedMembers, candidatesOf, memberAddresses, regionOrder, viewsOf } from './shard-view.ts';

export interface ShardMeansOptions {
  readonly kube: KubeApi;
  readonly cache: Cache;
  readonly client: AgentClient;
  readonly credentials: CredentialStore;
  readonly watch: AuthorityWatch;
  /** Who asks, for people. */
  readonly replica: string;
  readonly nowMs: () => number;
  readonly signal: AbortSignal;
}

/** A fence is answered within 1.5 s, if only by Busy; the rest is for the way. */
const fenceTimeoutMs = 2_500;
const apiTimeoutMs = 3_000;
/** A word so fresh need not be asked for again while a promotion is watched. */
const sightMs = 100;
/** Who a member is and with which settings it runs doesn't change between its fence and its orders. */
const statusFreshMs = 5_000;

interface KeptStatuses {
  readonly askedMs: number;
  readonly answers: Promise<ReadonlyMap<string, StatusAnswer>>;
}

export class ShardMeans {
  readonly #options: ShardMeansOptions;
  /** Asked for while fences are under way, so that a decision is followed by its orders at once. By UID of the Shard. */
  readonly #statuses = new Map<string, KeptStatuses>();
  readonly #lastHeard: LastHeard;

  constructor(options: ShardMeansOptions) {
    this.#options = options;
    this.#lastHeard = new LastHeard(options.nowMs);
  }

  /** @param sooner Ends the pause too; so does the end of the operator. */
  readonly pause = async (ms: number, sooner?: Promise<unknown>): Promise<void> => {
    const over = new AbortController();
    const signal = AbortSignal.any([this.#options.signal, over.signal]);
    const slept = sleep(ms, undefined, { signal }).catch(() => undefined);
    await (sooner === undefined ? slept : Promise.race([slept, sooner]));
    over.abort();
  };

  /** Remembers how far the log of this primary, whose commits nobody acknowledges, goes; returns at once. */
  hear(shard: Stored<Shard>, record: AuthorityRecord): void {
    const { client } = this.#options;
    const { namespace = '', uid } = shard.metadata;
    const { name } = primaryOf(record);
    this.#lastHeard.look(uid, record, async () => {
      const address = this.#addressOf(shard, name);
      if (address === undefined) return { kind: 'silent', why: 'its pod has no address' };
      return client.status(targetOf(shard, name, address), await this.#credentials(namespace, shard.spec.keyspace));
    });
  }

  /** Forgets what was heard of all but these shards, by UID. */
  keepOnly(shardUids: ReadonlySet<string>): void {
    this.#lastHeard.keepOnly(shardUids);
  }

  leaseWatch(shard: Stored<Shard>): ShardLeaseWatch {
    const { namespace = '', name } = shard.metadata;
    return new ShardLeaseWatch(this.#options.kube, { namespace, name }, this.#options.nowMs);
  }

  ofAttempt(
    shard: Stored<Shard>,
    lease: ShardLeaseWatch | undefined,
    intent: TakeoverIntent,
  ): Omit<AttemptMeans, 'takeTurn' | 'tell'> {
    const { cache, kube, nowMs, signal, watch } = this.#options;
    const client = kube.of(shards);
    return {
      nowMs,
      signal,
      wallClock: () => new Date(),
      read: () => within(apiTimeoutMs, client.get(shard.metadata), `GET ${keyOf(shard)}`),
      write: (changed) => within(apiTimeoutMs, client.updateStatus(changed), `PUT ${keyOf(shard)}/status`),
      ping: async (record) => {
        await watch.askAnew(askedMembers(shard, record, memberAddresses(cache)));
        return watch.pings(record, shard.metadata);
      },
      fence: (member, epoch, handover) => {
        this.#prepare(shard);
        return this.#fence(shard, member, epoch, handover);
      },
      ship: (record, from, to, epoch) => this.#ship(shard, record, from, to, epoch),
      watchLease: () => lease?.look() ?? Promise.resolve(undefined),
      lookAtLease: () =>
        within(apiTimeoutMs, lease?.lookAnew() ?? Promise.resolve(undefined), `GET the Lease of ${keyOf(shard)}`),
      handLease: async (holder, epoch) => {
        await within(apiTimeoutMs, lease?.hand(holder, epoch) ?? Promise.resolve(), `PUT the Lease of ${keyOf(shard)}`);
      },
      candidates: (present) => candidatesFor(intent, candidatesOf(cache, present)),
      regions: (present) => regionOrder(cache, present),
      heard: (primary) => this.#lastHeard.of(shard.metadata.uid, primary),
      distrust: (present, record, pings) =>
        contradiction(record, present.metadata.uid, promisesOf(record, pings))?.message,
      pause: this.pause,
    };
  }

  ofPromotion(shard: Stored<Shard>, record: AuthorityRecord): Omit<PromotionMeans, 'isCurrent' | 'tell'> {
    const { cache, nowMs, signal, watch } = this.#options;
    const { namespace = '' } = shard.metadata;
    const chosen = primaryOf(record);
    return {
      nowMs,
      signal,
      wished: async () => {
        const keyspace = this.#keyspace(namespace, shard.spec.keyspace);
        if (keyspace === undefined) return [];
        const views = viewsOf(cache, shard, await this.#preparedStatuses(shard));
        return takeoverOrders({ shard, keyspace, record, views });
      },
      send: ({ view }, orders) => this.#send(shard, view.name, view.pod?.address, orders),
      chosen: async () => {
        const asked = askedMembers(shard, record, memberAddresses(cache)).filter(({ name }) => name === chosen.name);
        await watch.ask(asked, sightMs);
        return watch.pings(record, shard.metadata).get(replicationName(chosen));
      },
      pause: this.pause,
    };
  }

  /** @throws Error while there are no credentials */
  async askAuthority({ namespace, keyspace, name, address }: AskedMember): Promise<AuthorityReply> {
    if (address === undefined) return { kind: 'silent', why: 'its pod has no address' };
    const target = { namespace, keyspace, member: name, address };
    return this.#options.client.authority(target, await this.#credentials(namespace, keyspace), {});
  }

  async #fence(shard: Stored<Shard>, member: MemberIdentity, epoch: number, handover: boolean): Promise<FenceReply> {
    const { namespace = '' } = shard.metadata;
    try {
      const address = this.#addressOf(shard, member.name);
      if (address === undefined) return { kind: 'unknown', why: 'its pod has no address' };
      return await this.#options.client.fence(
        targetOf(shard, member.name, address),
        await this.#credentials(namespace, shard.spec.keyspace),
        { shardUid: shard.metadata.uid, member: { ...member }, epoch, by: this.#options.replica, handover },
        fenceTimeoutMs,
      );
    } catch (error) {
      return { kind: 'unknown', why: String(error) };
    }
  }

  /** `to` is told to stream from `from`, of which it is no follower: both have promised the epoch to nobody yet. */
  async #ship(
    shard: Stored<Shard>,
    record: AuthorityRecord,
    from: MemberIdentity,
    to: MemberIdentity,
    epoch: number,
  ): Promise<void> {
    const { cache } = this.#options;
    const { namespace = '' } = shard.metadata;
    const keyspace = this.#keyspace(namespace, shard.spec.keyspace);
    const [source, address] = [this.#addressOf(shard, from.name), this.#addressOf(shard, to.name)];
    if (keyspace === undefined || source === undefined || address === undefined) return;
    const views = viewsOf(cache, shard, await this.#preparedStatuses(shard));
    const orders = takeoverOrders({ shard, keyspace, record, views }).find(({ view }) => view.name === to.name)?.orders;
    if (orders === undefined) return;
    await this.#send(shard, to.name, address, {
      ...orders,
      role: 'Follower',
      epoch,
      ship: true,
      source: { ...from, address: source, tunnelPort: ports.tunnel },
      leaderTerm: 0,
      sequence: 0,
    });
  }

  async #send(
    shard: Stored<Shard>,
    member: string,
    address: string | undefined,
    orders: Parameters<AgentClient['order']>[2],
  ): Promise<OrdersAnswer> {
    if (address === undefined) return { kind: 'unknown', why: 'its pod has no address' };
    const { namespace = '' } = shard.metadata;
    try {
      return await this.#options.client.order(
        targetOf(shard, member, address),
        await this.#credentials(namespace, shard.spec.keyspace),
        orders,
      );
    } catch (error) {
      return { kind: 'unknown', why: String(error) };
    }
  }

  #prepare(shard: Stored<Shard>): void {
    const { uid } = shard.metadata;
    const { nowMs } = this.#options;
    for (const [key, { askedMs }] of this.#statuses) if (nowMs() - askedMs > statusFreshMs) this.#statuses.delete(key);
    if (this.#statuses.has(uid)) return;
    const answers = this.#askStatuses(shard);
    answers.catch(() => this.#statuses.delete(uid));
    this.#statuses.set(uid, { askedMs: nowMs(), answers });
  }

  /** Once: whoever didn't answer then is asked anew by the next call. */
  #preparedStatuses(shard: Stored<Shard>): Promise<ReadonlyMap<string, StatusAnswer>> {
    const { uid } = shard.metadata;
    const kept = this.#statuses.get(uid);
    this.#statuses.delete(uid);
    const isFresh = kept !== undefined && this.#options.nowMs() - kept.askedMs <= statusFreshMs;
    return isFresh ? kept.answers : this.#askStatuses(shard);
  }

  /** Of those who answered lately: a lost member's time-out isn't waited for. */
  async #askStatuses(shard: Stored<Shard>): Promise<ReadonlyMap<string, StatusAnswer>> {
    const { cache, client, watch } = this.#options;
    const { namespace = '', name } = shard.metadata;
    const silent = watch.silentNames(namespace);
    const credentials = await this.#credentials(namespace, shard.spec.keyspace);
    const asked = [...(memberAddresses(cache).get(`${namespace}/${name}`) ?? [])].filter(
      ([member]) => !silent.has(member),
    );
    const answers = await Promise.all(
      asked.map(
        async ([member, address]): Promise<[string, StatusAnswer]> => [
          member,
          await client.status(targetOf(shard, member, address), credentials),
        ],
      ),
    );
    return new Map(answers);
  }

  #addressOf(shard: Stored<Shard>, member: string): string | undefined {
    return memberAddresses(this.#options.cache).get(keyOf(shard))?.get(member);
  }

  #keyspace(namespace: string, name: string): Stored<Keyspace> | undefined {
    return this.#options.cache.get(keyspaces, { namespace, name });
  }

  async #credentials(namespace: string, name: string): Promise<OperatorCredentials> {
    const keyspace = this.#keyspace(namespace, name);
    if (keyspace === undefined) throw new Error('its Keyspace is gone, and with it our certificate');
    return this.#options.credentials.of(keyspace);
  }
}

const targetOf = (shard: Stored<Shard>, member: string, address: string): AgentTarget => ({
  namespace: shard.metadata.namespace ?? '',
  keyspace: shard.spec.keyspace,
  member,
  address,
});

/** Where people ask for one member, nobody else will do. */
function candidatesFor(intent: TakeoverIntent, candidates: readonly Candidate[]): readonly Candidate[] {
  if (intent.kind !== 'Recover' || intent.wanted === undefined) return candidates;
  const { name } = intent.wanted;
  return candidates.map((candidate) => ({ ...candidate, promotable: candidate.promotable && candidate.name === name }));
}

function promisesOf(record: AuthorityRecord, pings: Pings): Parameters<typeof contradiction>[2] {
  return record.membership.members.flatMap((member) => {
    const answer = answerOf(pings, member)?.answer;
    return answer === undefined ? [] : [{ name: member.name, shardUid: answer.shardUid, ...answer.promise }];
  });
}

/** The request goes on, and what becomes of it is unknown: as with any that isn't answered. */
async function within<T>(ms: number, work: Promise<T>, what: string): Promise<T> {
  work.catch(() => undefined);
  const over = new AbortController();
  const late = sleep(ms, undefined, { signal: over.signal }).then((): never => {
    throw new ApiError(0, what, { reason: 'Timeout', message: `${what}: no answer in ${ms} ms` });
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    over.abort();
    late.catch(() => undefined);
  }
}
