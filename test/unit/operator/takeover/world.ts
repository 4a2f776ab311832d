/**
 * A shard with members whose logs are lists of entries, an API server that compares and swaps, and operator replicas that run
 * the real takeover service against them, each of which may die or stand still at any call it makes.
 * Members are models with the real rules of promises; clocks are virtual. What must hold is checked at every step of theirs:
 * two primaries never acknowledge at once, and whoever opens has everything that was acknowledged.
 */
import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { neededForFence } from '#core/authority/fence.ts';
import { decideFence } from '#core/authority/promise.ts';
import { type AuthorityRecord, isPrimary, sameMember } from '#core/authority/record.ts';
import { kubernetesLeaseMs, leaseMarginMs, leaseMs } from '#core/authority/timing.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { formatLsn, type Lsn } from '#core/lsn.ts';
import type { AuthorityAnswer } from '#core/protocol/authority.ts';
import { ApiError } from '#kube/errors.ts';
import type { Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { FenceReply } from '#operator/agents/client.ts';
import { recordOf } from '#operator/controllers/shard/snapshot.ts';
import { VirtualTime } from './virtual-time.ts';

export interface ModelMember extends MemberIdentity {
  readonly region: string;
  promotable: boolean;
  /** Its agent answers operators, and takes part in everything. */
  up: boolean;
  /** Its agent lives, but no operator reaches it. */
  hidden: boolean;
  /** What it sends its followers is lost, or what they send it; operators reach everybody. */
  unheard: boolean;
  /** It can't reach the API server. */
  cut: boolean;
  /** Its Postgres isn't stopped before. */
  stopsAtMs: number;
  promise: { epoch: number; grantee: string; atMs: number };
  /** Epoch of the orders that it has. */
  ordered: number;
  role: 'none' | 'primary' | 'follower';
  open: boolean;
  released: boolean;
  /** Entries of its log; what it was written on is its timeline. */
  log: string[];
  timeline: number;
  source: string | undefined;
  shipsFrom: string | undefined;
  grantUntilMs: number;
  heardMs: number;
  startedMs: number;
  /** When it last renewed the Kubernetes Lease, as it remembers itself. */
  leaseRenewedMs: number;
  /** Of its lease, by grantor: when the granted request was sent. */
  grants: Map<string, number>;
}

export type Fault = 'before' | 'after';

export class World {
  readonly time: VirtualTime;
  readonly members = new Map<string, ModelMember>();
  readonly acknowledged: string[] = [];
  /** Every decision that the API server took, in order. */
  readonly decided: AuthorityRecord[] = [];
  readonly openings: { readonly member: string; readonly epoch: number; readonly atMs: number }[] = [];
  shard: Stored<Shard>;
  apiIsAway = false;
  /** The shard's Kubernetes Lease, where k = 0. */
  lease = { holder: '', version: 0, renewedMs: Number.NEGATIVE_INFINITY };
  /** The next writes are done, and their answers lost. */
  loseAnswers = 0;
  #entries = 0;
  #lastAcknowledgedAtMs = 0;

  /** @param name Its members are called after it. @param time That it shares with other shards. */
  constructor(size = 3, spec: Partial<Shard['spec']> = {}, name = 'a', time = new VirtualTime()) {
    this.time = time;
    const regions = ['eu', 'us', 'ap', 'sa', 'af'].slice(0, size);
    for (const [index, region] of regions.entries()) this.#add(`${name}-${region}-0`, region, index);
    const identities = [...this.members.values()].map(identityOf);
    const primary = this.member(`${name}-eu-0`);
    const durability = { acknowledgements: 1, scope: 'AnyMember', onLoss: 'Block', ...spec.durability } as const;
    this.shard = {
      apiVersion: 'meridian.db/v1alpha1',
      kind: 'Shard',
      metadata: {
        namespace: 'test',
        name,
        uid: name === 'a' ? 'shard-uid' : `${name}-uid`,
        resourceVersion: '1',
        creationTimestamp: '2026-01-01T00:00:00Z',
      },
      spec: {
        keyspace: 'shop',
        primaryRegion: 'eu',
        postgres: { version: '17', parameters: {} },
        storage: { size: '1Gi' },
        failover: { mode: 'Automatic', priority: 0 },
        deletionPolicy: 'Retain',
        ...spec,
        durability,
      },
      status: {
        authority: {
          epoch: 1,
          timeline: 1,
          member: primary.name,
          incarnation: primary.incarnation,
          region: 'eu',
          since: '2026-01-01T00:00:00Z',
          state: 'Active',
        },
        membership: { generation: 1, members: identities, acknowledgements: durability.acknowledgements },
        history: [{ epoch: 1, timeline: 1, member: primary.name, forkLsn: '0/0' }],
      },
    };
    for (const member of this.members.values()) this.#order(member);
    void this.#live();
    void this.#lead();
  }

  get record(): AuthorityRecord {
    const record = recordOf(this.shard);
    assert.ok(record !== undefined);
    return record;
  }

  get primary(): ModelMember {
    return this.member(this.record.authority.member);
  }

  /** The recorded primary serves, and everybody who lives follows it. */
  get isWell(): boolean {
    return (
      this.primary.open &&
      this.record.authority.state === 'Active' &&
      this.primary.promise.epoch === this.record.authority.epoch &&
      [...this.members.values()].every((member) => !member.up || member === this.primary || this.#streams(member))
    );
  }

  member(name: string): ModelMember {
    const member = this.members.get(name);
    assert.ok(member !== undefined, name);
    return member;
  }

  /** Its process ends, and with it whatever it served; its volume stays. */
  kill(name: string): void {
    const member = this.member(name);
    Object.assign(member, { up: false, role: 'none', open: false, source: undefined, shipsFrom: undefined });
    member.grants.clear();
  }

  revive(name: string): void {
    const member = this.member(name);
    // What it granted it has forgotten (trap A7).
    Object.assign(member, {
      up: true,
      startedMs: this.time.nowMs,
      grantUntilMs: this.time.nowMs + leaseMs,
      ordered: 0,
    });
  }

  /** The pod comes back on an empty volume: it is another member, which has promised nothing and holds nothing. */
  replaceVolume(name: string): void {
    this.kill(name);
    this.revive(name);
    const promise = { epoch: 0, grantee: '', atMs: this.time.nowMs };
    Object.assign(this.member(name), { incarnation: 'f'.repeat(16), promise, log: [], timeline: 0, ordered: 0 });
  }

  answer(name: string): AuthorityAnswer | undefined {
    const member = this.member(name);
    if (!member.up || member.hidden) return undefined;
    const { nowMs } = this.time;
    const source = member.source === undefined ? undefined : this.member(member.source);
    const { epoch, grantee, atMs } = member.promise;
    return {
      member: identityOf(member),
      shardUid: this.shard.metadata.uid,
      region: member.region,
      version: 1,
      state: member.role === 'primary' ? (member.open ? 'open' : 'opening') : source ? 'following' : 'fenced',
      promise: { epoch, grantee, generation: this.record.membership.generation, ageMs: nowMs - atMs },
      agentAgeMs: nowMs - member.startedMs,
      ...(member.role === 'primary' || member.released
        ? {
            primary: {
              epoch,
              timeline: member.timeline,
              serving: member.open,
              leaseRemainingMs: Math.max(0, this.#leaseUntilMs(member) - nowMs),
              leaseNumber: 1,
              released: member.released,
            },
          }
        : {}),
      ...(source === undefined
        ? {}
        : {
            follower: {
              source: identityOf(source),
              epoch,
              servingHeardMs: nowMs - member.heardMs,
              walHeardMs: nowMs - member.heardMs,
              grantRemainingMs: Math.max(0, member.grantUntilMs - nowMs),
            },
          }),
    };
  }

  fence(name: string, identity: MemberIdentity, epoch: number): FenceReply {
    const member = this.member(name);
    if (!member.up || member.hidden) return { kind: 'unknown', why: 'no answer' };
    const promise = { shardUid: this.shard.metadata.uid, generation: 1, ...member.promise };
    const decision = decideFence({ shardUid: this.shard.metadata.uid, member: identity, epoch }, member, promise);
    const { nowMs } = this.time;
    if (decision.kind === 'Refuse') {
      const { atMs, ...seen } = member.promise;
      const refusal = {
        code: decision.code,
        message: decision.message,
        promise: { ...seen, ageMs: nowMs - atMs },
      };
      return { kind: 'refused', refusal };
    }
    if (decision.isNew) member.promise = { epoch, grantee: '', atMs: nowMs };
    if (nowMs < member.stopsAtMs) {
      member.open = false;
      return { kind: 'refused', refusal: { code: 'Busy', message: 'its Postgres is being stopped' } };
    }
    Object.assign(member, { role: 'none', open: false, source: undefined, shipsFrom: undefined });
    member.grants.clear();
    return {
      kind: 'fenced',
      fenced: {
        member: identityOf(member),
        epoch,
        position: { timeline: member.timeline, lsn: formatLsn(BigInt(member.log.length) as Lsn) },
        problem: '',
        leaseRemainingMs: Math.max(0, member.grantUntilMs - nowMs),
        stopped: true,
        systemIdentifier: '1',
      },
    };
  }

  ship(from: string, to: string, epoch: number): void {
    const member = this.member(to);
    if (!member.up || member.promise.epoch !== epoch || member.promise.grantee !== '') return;
    member.shipsFrom = from;
  }

  read(): Stored<Shard> {
    this.#assertApi();
    return structuredClone(this.shard);
  }

  write(shard: Stored<Shard>): Stored<Shard> {
    this.#assertApi();
    const { resourceVersion } = this.shard.metadata;
    if (shard.metadata.resourceVersion !== resourceVersion)
      throw new ApiError(409, 'PUT', { message: 'the object has been modified' });
    const before = this.record;
    this.shard = structuredClone({
      ...shard,
      metadata: { ...shard.metadata, resourceVersion: String(Number(resourceVersion) + 1) },
    });
    if (!isDeepStrictEqual(before.authority, this.record.authority)) {
      assert.ok(this.record.authority.epoch >= before.authority.epoch, 'an epoch went back');
      if (this.record.authority.epoch > before.authority.epoch) this.#checkDecision(before, this.record);
    }
    if (this.loseAnswers > 0) {
      this.loseAnswers -= 1;
      throw new ApiError(0, 'PUT', { reason: 'Timeout', message: 'no answer' });
    }
    return structuredClone(this.shard);
  }

  /** Something else of the status is written, as the leader does all the time. */
  touch(): void {
    this.write({
      ...this.shard,
      status: { ...this.shard.status, observedGeneration: Number(this.shard.metadata.resourceVersion) },
    });
  }

  /** Of the Lease, by whoever has seen this version of it. */
  takeLease(holder: string, version: number): boolean {
    this.#assertApi();
    if (version !== this.lease.version) return false;
    this.lease = { holder, version: version + 1, renewedMs: this.time.nowMs };
    return true;
  }

  /** Takeover orders by the present record, as a member takes or refuses them. */
  order(name: string): 'taken' | 'refused' | 'unknown' {
    const member = this.member(name);
    if (!member.up || member.hidden) return 'unknown';
    return this.#order(member) ? 'taken' : 'refused';
  }

  #order(member: ModelMember): boolean {
    const { record } = this;
    const { epoch, timeline } = record.authority;
    const { promise } = member;
    const grantee = replicationName(identityOf(this.primary));
    if (promise.epoch > epoch || (promise.epoch === epoch && promise.grantee !== '' && promise.grantee !== grantee))
      return false;
    if (member.ordered >= epoch) return true;
    if (record.authority.state === 'Stopping') return true;
    member.ordered = epoch;
    if (promise.epoch < epoch || promise.grantee === '') member.promise = { epoch, grantee, atMs: this.time.nowMs };
    member.shipsFrom = undefined;
    member.released = false;
    if (member === this.primary) {
      Object.assign(member, { role: 'primary', open: false, timeline, source: undefined });
      return true;
    }
    // Its lease is over by the time that it is ordered anything else: it would have been fenced, or hears nothing.
    Object.assign(member, { role: 'follower', open: false, source: this.primary.name, heardMs: this.time.nowMs });
    return true;
  }

  /** All that members do by themselves: ask and grant, write and stream, open, and end themselves in time. */
  async #live(): Promise<void> {
    for (;;) {
      await this.time.sleep(100);
      for (const member of this.members.values()) if (member.up && member.role === 'primary') this.#beLed(member);
      for (const member of this.members.values()) {
        const source = member.shipsFrom === undefined ? undefined : this.member(member.shipsFrom);
        if (member.up && source?.up === true)
          Object.assign(member, { log: [...source.log], timeline: source.timeline });
      }
    }
  }

  #beLed(primary: ModelMember): void {
    const { nowMs } = this.time;
    for (const follower of this.members.values()) {
      if (!this.#streamsFrom(follower, primary)) continue;
      follower.grantUntilMs = nowMs + leaseMs;
      primary.grants.set(follower.name, nowMs);
      if (primary.open) follower.heardMs = nowMs;
      follower.log = [...primary.log];
      follower.timeline = primary.timeline;
    }
    this.#renew(primary);
    const isHeld = this.#leaseUntilMs(primary) > nowMs + 200;
    if (primary.open && !isHeld) Object.assign(primary, { open: false, role: 'none', released: true });
    if (primary.role !== 'primary' || !isHeld) return;
    const { authority } = this.record;
    // The start gate, for one that was promoted or started anew.
    const isConfirmed = authority.epoch === primary.promise.epoch && authority.member === primary.name;
    if (!primary.open && isConfirmed) this.#open(primary);
    if (primary.open) this.#acknowledge(primary);
  }

  #renew(primary: ModelMember): void {
    const { holder, version, renewedMs } = this.lease;
    const self = replicationName(identityOf(primary));
    if (this.record.membership.acknowledgements > 0 || primary.cut || this.apiIsAway) return;
    if (holder !== '' && (holder !== self || this.time.nowMs - renewedMs < 2_000)) return;
    if (this.takeLease(self, version)) primary.leaseRenewedMs = this.time.nowMs;
  }

  #open(primary: ModelMember): void {
    primary.open = true;
    const { epoch } = primary.promise;
    this.openings.push({ member: primary.name, epoch, atMs: this.time.nowMs });
    // With k = 0 what the primary alone had may be lost, and that is told.
    const safe = this.record.membership.acknowledgements === 0 ? [] : this.acknowledged;
    for (const entry of safe)
      assert.ok(primary.log.includes(entry), `${primary.name} opened epoch ${epoch} without ${entry}`);
    for (const other of this.members.values())
      assert.ok(other === primary || !other.open, `${other.name} is open beside ${primary.name}`);
  }

  #acknowledge(primary: ModelMember): void {
    this.#entries += 1;
    const entry = `${primary.promise.epoch}:${this.#entries}`;
    primary.log.push(entry);
    const k = this.record.membership.acknowledgements;
    const having = [...this.members.values()].filter((member) => this.#streamsFrom(member, primary));
    for (const follower of having) follower.log = [...primary.log];
    if (having.length < k) return;
    this.acknowledged.push(entry);
    this.#lastAcknowledgedAtMs = this.time.nowMs;
  }

  #checkDecision(before: AuthorityRecord, record: AuthorityRecord): void {
    this.decided.push(record);
    for (const member of this.members.values())
      assert.ok(!member.open, `epoch ${record.authority.epoch} was decided while ${member.name} was open`);
    const promised = record.membership.members.filter(
      (listed) => this.member(listed.name).promise.epoch >= record.authority.epoch,
    );
    // With k = 0 this is one besides the Lease: whoever granted can't grant any more.
    assert.ok(
      promised.length >= neededForFence(before) || promised.some((member) => isPrimary(before, member)),
      `epoch ${record.authority.epoch} was decided with ${promised.length} promises`,
    );
    const chosen = this.member(record.authority.member);
    for (const entry of before.membership.acknowledgements === 0 ? [] : this.acknowledged)
      assert.ok(chosen.log.includes(entry), `${chosen.name} was chosen without ${entry}`);
    assert.deepEqual(record.membership.members, before.membership.members);
    assert.ok(this.#lastAcknowledgedAtMs <= this.time.nowMs);
  }

  #leaseUntilMs(primary: ModelMember): number {
    const { acknowledgements, members } = this.record.membership;
    if (acknowledgements === 0) {
      const byLease = primary.leaseRenewedMs;
      const granted = members
        .filter(({ name }) => name !== primary.name)
        .map(({ name }) => primary.grants.get(name) ?? 0);
      return Math.max(byLease + kubernetesLeaseMs, Math.min(...granted) + leaseMs) - leaseMarginMs;
    }
    const required = Math.min(acknowledgements, members.length - 1);
    const latestFirst = [...primary.grants.values()].toSorted((a, b) => b - a);
    const sentAtMs = latestFirst[required - 1];
    if (required === 0) return Number.POSITIVE_INFINITY;
    return sentAtMs === undefined ? 0 : sentAtMs + leaseMs - leaseMarginMs;
  }

  #streamsFrom(member: ModelMember, primary: ModelMember): boolean {
    if (primary.unheard || !member.up) return false;
    return member.source === primary.name && member.promise.epoch === primary.promise.epoch;
  }

  #streams(member: ModelMember): boolean {
    return this.#streamsFrom(member, this.primary);
  }

  /** The leader's shard controller, as far as it matters here: the record's orders, again and again. */
  async #lead(): Promise<void> {
    for (;;) {
      await this.time.sleep(1_000);
      if (this.apiIsAway) continue;
      for (const member of this.members.values()) if (member.up && !member.hidden) this.#order(member);
    }
  }

  #assertApi(): void {
    if (this.apiIsAway) throw new ApiError(0, 'API server', { reason: 'Unreachable', message: 'away' });
  }

  #add(name: string, region: string, index: number): void {
    this.members.set(name, {
      name,
      incarnation: String(index + 1).padStart(16, '0'),
      region,
      promotable: true,
      up: true,
      hidden: false,
      unheard: false,
      cut: false,
      stopsAtMs: 0,
      promise: { epoch: 0, grantee: '', atMs: 0 },
      ordered: 0,
      role: 'none',
      open: false,
      released: false,
      log: [],
      timeline: 1,
      source: undefined,
      shipsFrom: undefined,
      grantUntilMs: 0,
      heardMs: this.time.nowMs,
      startedMs: this.time.nowMs - 60_000,
      leaseRenewedMs: Number.NEGATIVE_INFINITY,
      grants: new Map(),
    });
  }
}

export const identityOf = ({ name, incarnation }: MemberIdentity): MemberIdentity => ({ name, incarnation });

export const isSame = sameMember;
