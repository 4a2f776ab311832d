/**
 * A small world for the shard's controller: a Shard with versions, members that take orders by the agent's own rules and work
 * towards them step by step, and operators that may stop between any two actions or act on what they saw long ago.
 * Members are models; what decides (the plan, and whether orders are taken) is the real code.
 */
import assert from 'node:assert/strict';
import { decideOrders } from '#agent/orders/decide.ts';
import { firstPromise, type PromiseRecord } from '#agent/promise/record.ts';
import { type AuthorityRecord, isListed, isPrimary } from '#core/authority/record.ts';
import { type MemberIdentity, nobody } from '#core/identity.ts';
import { formatLsn, type Lsn } from '#core/lsn.ts';
import { digestOfOrders } from '#core/protocol/digest.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import type { Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import type { MemberView } from '#operator/controllers/shard/members.ts';
import { recordOf, type Snapshot } from '#operator/controllers/shard/snapshot.ts';

export interface SimulatedMember {
  readonly name: string;
  readonly region: string;
  declared: boolean;
  incarnation: string;
  /** Its incarnation as its RegionalReplica says it, which is some time after it was made. */
  published: string | undefined;
  podUid: string;
  outdated: boolean;
  /** Its volume is marked for deletion, and goes with its pod. */
  volumeGoing: boolean;
  reachable: boolean;
  promise: PromiseRecord;
  orders: Orders | undefined;
  applied: boolean;
  data: 'absent' | 'primary' | 'standby';
  open: boolean;
  /** The list that the running Postgres works by, which is that of former orders until the present ones are applied. */
  inForce: Orders['synchronous'];
  /** It streams, and flushes nothing for now. */
  stalled: boolean;
  /** The primary no longer has the log that it needs. */
  lacksLog: boolean;
  restartNonce: string;
  pendingRestart: boolean;
  flushed: bigint;
}

export const shardUid = 'shard-uid';

export class World {
  shard: Stored<Shard>;
  readonly members = new Map<string, SimulatedMember>();
  regions: Snapshot['regions'] = ['eu', 'us', 'ap'].map((name) => ({ name, drain: false, proximity: [] }));
  /** How often a data directory was made from nothing. */
  initialised = 0;
  lsn = 100n;
  /** Up to here clients have been told that their commits are safe. */
  acknowledged = 0n;
  now = Date.parse('2026-01-01T00:00:00Z');
  #lives = 0;

  constructor(spec: Partial<Shard['spec']> = {}) {
    this.shard = {
      apiVersion: 'meridian.db/v1alpha1',
      kind: 'Shard',
      metadata: {
        namespace: 'test',
        name: 'a',
        uid: shardUid,
        resourceVersion: '1',
        creationTimestamp: '2026-01-01T00:00:00Z',
        generation: 1,
      },
      spec: {
        keyspace: 'shop',
        primaryRegion: 'eu',
        postgres: { version: '17', parameters: {} },
        storage: { size: '1Gi' },
        durability: { acknowledgements: 1, scope: 'AnyMember', onLoss: 'Block' },
        failover: { mode: 'Automatic', priority: 0 },
        deletionPolicy: 'Retain',
        ...spec,
      },
    };
  }

  get record(): AuthorityRecord | undefined {
    return recordOf(this.shard);
  }

  member(name: string): SimulatedMember {
    const member = this.members.get(name);
    assert.ok(member !== undefined, name);
    return member;
  }

  addMember(name: string): SimulatedMember {
    const incarnation = this.#newLife();
    const member: SimulatedMember = {
      name,
      region: name.slice(2, 4),
      declared: true,
      incarnation,
      published: undefined,
      podUid: `pod-${incarnation}`,
      outdated: false,
      volumeGoing: false,
      reachable: true,
      promise: firstPromise(incarnation),
      orders: undefined,
      applied: false,
      data: 'absent',
      open: false,
      inForce: { acknowledgements: 1, members: [nobody] },
      stalled: false,
      lacksLog: false,
      restartNonce: '',
      pendingRestart: false,
      flushed: 0n,
    };
    this.members.set(name, member);
    return member;
  }

  /** Its volume is gone, and the pod starts with a new one. */
  wipe(name: string): void {
    const { declared, outdated, published } = this.member(name);
    this.members.delete(name);
    Object.assign(this.addMember(name), { declared, outdated, published });
  }

  change(spec: Partial<Shard['spec']>): void {
    this.shard = this.#versioned({ ...this.shard, spec: { ...this.shard.spec, ...spec } });
    if (spec.postgres !== undefined) for (const member of this.members.values()) member.pendingRestart = true;
  }

  /** One step of every member towards its orders. */
  tick(milliseconds = 1_000): void {
    this.now += milliseconds;
    this.lsn += 10n;
    for (const member of this.members.values()) if (member.reachable) member.published = member.incarnation;
    for (const member of this.members.values()) this.#work(member);
    this.#acknowledge();
    this.#check();
  }

  /** What the open primary may tell its clients now: k of its list have flushed it, and itself. */
  #acknowledge(): void {
    for (const primary of this.members.values()) {
      if (!primary.open || primary.inForce.acknowledgements === 0) continue;
      const flushed = [...this.members.values()]
        .filter((member) => this.isStreaming(member) && primary.inForce.members.some((listed) => same(listed, member)))
        .map((member) => member.flushed)
        .toSorted((a, b) => (a > b ? -1 : 1));
      const position = flushed[primary.inForce.acknowledgements - 1];
      if (position !== undefined && position > this.acknowledged) this.acknowledged = position;
    }
  }

  #work(member: SimulatedMember): void {
    const { orders } = member;
    if (orders === undefined) return;
    const record = this.record;
    if (orders.role === 'Initialise' || orders.role === 'Primary') {
      const { authority } = record ?? {};
      const confirmed =
        authority?.member === member.name &&
        authority.incarnation === member.incarnation &&
        authority.epoch === orders.epoch;
      if (member.data === 'absent') {
        if (orders.role !== 'Initialise' || !confirmed) return;
        member.data = 'primary';
        this.initialised += 1;
        return;
      }
      if (!member.open && !confirmed) return;
      if (!member.open) {
        member.open = true;
        this.#startWith(member, orders);
      }
      member.flushed = this.lsn;
      member.applied = true;
      member.inForce = orders.synchronous;
      return;
    }
    if (orders.role !== 'Follower') return;
    const primary = this.#streamsFrom(member);
    if (member.data === 'absent') {
      if (primary === undefined) return;
      member.data = 'standby';
      this.#startWith(member, orders);
      return;
    }
    if (member.restartNonce !== orders.restartNonce) {
      this.#startWith(member, orders);
      return;
    }
    member.applied = true;
    // As the agent does: on a member that its orders don't count, nothing rests; it becomes a new one.
    if (member.lacksLog && !orders.synchronous.members.some((listed) => same(listed, member))) {
      assert.ok(record === undefined || !isListed(record, member), 'a member that counts throws its data away');
      this.wipe(member.name);
      return;
    }
    if (primary !== undefined && !member.stalled) member.flushed = primary.flushed;
  }

  #startWith(member: SimulatedMember, orders: Orders): void {
    member.restartNonce = orders.restartNonce;
    member.pendingRestart = false;
  }

  /** The open primary that lets this member in. */
  #streamsFrom(member: SimulatedMember): SimulatedMember | undefined {
    const source = member.orders?.source;
    const primary = source && this.members.get(source.name);
    if (member.lacksLog && member.data === 'standby') return undefined;
    if (primary?.open !== true || primary.incarnation !== source?.incarnation) return undefined;
    const isNamed = primary.orders?.slots.some((slot) => same(slot, member)) === true;
    return isNamed && primary.orders?.epoch === member.orders?.epoch ? primary : undefined;
  }

  isStreaming(member: SimulatedMember): boolean {
    return member.data === 'standby' && this.#streamsFrom(member) !== undefined;
  }

  /** After every action and every step: the record is never laxer than Postgres, and no fence misses what was acknowledged. */
  #check(): void {
    const record = this.record;
    assert.ok(this.initialised <= 1, 'two data directories were made from nothing');
    if (record === undefined) return;
    for (const { open, inForce } of this.members.values()) {
      if (!open) continue;
      const { acknowledgements, members } = inForce;
      const real = members.filter((member) => !same(member, nobody));
      assert.ok(
        acknowledgements >= record.membership.acknowledgements,
        'Postgres waits for fewer than the record says',
      );
      assert.ok(
        real.every((member) => isListed(record, member)),
        'Postgres counts somebody whom the record does not',
      );
      assert.equal(members.length === 0, acknowledgements === 0, 'the list is empty exactly when k = 0');
    }
    this.#checkFences(record);
  }

  /** Members of the record that live, but lack an acknowledged commit, are too few to be a fence among themselves. */
  #checkFences(record: AuthorityRecord): void {
    const { acknowledgements: k, members } = record.membership;
    if (k === 0 || record.authority.state !== 'Active') return;
    const lacking = [...this.members.values()].filter(
      (member) => isListed(record, member) && !isPrimary(record, member) && member.flushed < this.acknowledged,
    );
    // A fence has one member at least, also while a young record has fewer members than it will need.
    const fence = Math.max(1, members.length - k);
    assert.ok(lacking.length < fence, 'a fence could miss an acknowledged commit');
  }

  status(member: SimulatedMember): AgentStatus {
    const { orders, promise } = member;
    const running = member.open || member.data === 'standby';
    return {
      member: { name: member.name, incarnation: member.incarnation },
      region: member.region,
      phase: phaseOf(member),
      problem: '',
      hasData: member.data !== 'absent',
      ...(promise.epoch === 0
        ? {}
        : {
            promise: {
              shardUid: promise.shardUid,
              epoch: promise.epoch,
              grantee: promise.grantee,
              generation: promise.generation,
            },
          }),
      systemIdentifier: '7',
      ...(orders === undefined
        ? {}
        : {
            orders: {
              role: orders.role,
              epoch: orders.epoch,
              leaderTerm: orders.leaderTerm,
              sequence: orders.sequence,
              generation: orders.generation,
              digest: digestOfOrders(orders),
              applied: member.applied,
              restartNonce: orders.restartNonce,
            },
          }),
      ...(running
        ? {
            postgres: {
              running: true,
              open: true,
              inRecovery: member.data === 'standby',
              version: '17',
              timeline: 1,
              lsn: { written: text(member.flushed), flushed: text(member.flushed), replayed: text(member.flushed) },
              epoch: 1,
              pendingRestart: member.pendingRestart,
              restartNonce: member.restartNonce,
            },
          }
        : {}),
      ...(orders?.role === 'Follower' && orders.source !== undefined
        ? {
            upstream: {
              member: orders.source.name,
              streaming: this.isStreaming(member),
              lagBytes: 0,
              caughtUp: this.isStreaming(member),
              needsCopy: member.lacksLog,
            },
          }
        : {}),
      standbys: member.open ? this.#standbysOf(member) : [],
      slots: [],
    };
  }

  #standbysOf(primary: SimulatedMember): AgentStatus['standbys'] {
    return [...this.members.values()]
      .filter((member) => member.reachable && this.#streamsFrom(member) === primary && member.data === 'standby')
      .map((member) => ({
        name: member.name,
        incarnation: member.incarnation,
        state: 'streaming',
        flushed: text(member.flushed),
        replayed: text(member.flushed),
        lagBytes: 0,
        sync: primary.orders?.synchronous.members.some((listed) => same(listed, member)) ? 'quorum' : 'async',
      }));
  }

  views(): MemberView[] {
    return [...this.members.values()]
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map((member) => ({
        name: member.name,
        region: member.region,
        promotable: true,
        declared: member.declared,
        volume: 'bound',
        volumeGoing: member.volumeGoing,
        pod: {
          uid: member.podUid,
          address: `10.0.0.${member.name}`,
          ready: member.reachable && (member.open || this.isStreaming(member)),
          ending: false,
          idle: false,
          outdated: member.outdated,
          problem: undefined,
        },
        answer: member.reachable
          ? { kind: 'status', status: this.status(member) }
          : { kind: 'silent', why: 'no answer within 2000 ms' },
        lastKnown: member.published === undefined ? undefined : { name: member.name, incarnation: member.published },
      }));
  }

  /** Takes orders as the agent does. */
  order(name: string, orders: Orders): void {
    const member = this.members.get(name);
    if (member?.reachable !== true) return;
    const decision = decideOrders(orders, {
      member: { name, incarnation: member.incarnation },
      namespace: 'test',
      shard: 'a',
      promise: member.promise,
      taken: member.orders,
      hasData: member.data !== 'absent',
    });
    if (decision.kind === 'refuse') return;
    member.promise = decision.promise;
    member.orders = orders;
    if (decision.isNew) member.applied = false;
    this.#check();
  }

  /** A compare-and-swap: true when it took place. */
  swap(resourceVersion: string, record: AuthorityRecord): boolean {
    if (resourceVersion !== this.shard.metadata.resourceVersion) return false;
    const { authority, membership, history } = record;
    this.shard = this.#versioned({
      ...this.shard,
      status: {
        ...this.shard.status,
        authority: { ...authority },
        membership: { ...membership, members: [...membership.members] },
        history: [...history],
      },
    });
    this.#check();
    return true;
  }

  replacePod(name: string, uid: string): void {
    const member = this.members.get(name);
    if (member?.podUid !== uid) return;
    if (member.volumeGoing) {
      assert.ok(this.record === undefined || !isListed(this.record, member), 'a volume goes on which commits may rest');
      this.wipe(name);
      return;
    }
    member.podUid = `${uid}+`;
    member.outdated = false;
    member.pendingRestart = false;
    member.applied = false;
    member.open = false;
  }

  #versioned(shard: Stored<Shard>): Stored<Shard> {
    const resourceVersion = String(Number(this.shard.metadata.resourceVersion) + 1);
    return { ...shard, metadata: { ...shard.metadata, resourceVersion } };
  }

  #newLife(): string {
    this.#lives += 1;
    return this.#lives.toString(16).padStart(16, '0');
  }
}

const same = (a: MemberIdentity, b: { readonly name: string; readonly incarnation: string }): boolean =>
  a.name === b.name && a.incarnation === b.incarnation;

const text = (lsn: bigint): string => formatLsn(lsn as Lsn);

function phaseOf({ orders, open, data }: SimulatedMember): AgentStatus['phase'] {
  if (orders === undefined) return 'Waiting';
  if (open) return 'Primary';
  if (data === 'standby') return 'Following';
  return orders.role === 'Follower' ? 'Cloning' : 'Initialising';
}
