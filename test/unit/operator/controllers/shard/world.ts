/**
 * A small world for the shard's controller: a Shard with versions, members that take orders by the agent's own rules and work
 * towards them step by step, and operators that may stop between any two actions or act on what they saw long ago.
 * Members are models; what decides (the plan, whether orders are taken, who takes over) is the real code. Leases aren't modelled:
 * a takeover (`simulated-takeover.ts`) ends an old primary where its lease would have run out.
 */
import assert from 'node:assert/strict';
import { decideOrders } from '#agent/orders/decide.ts';
import { awayBeforeDeposedMs } from '#core/authority/membership-change.ts';
import { divergenceFrom } from '#core/authority/position.ts';
import { type AuthorityRecord, isListed, isPrimary } from '#core/authority/record.ts';
import { mayRewind } from '#core/authority/rejoin.ts';
import { type MemberIdentity, nobody } from '#core/identity.ts';
import type { Lsn } from '#core/lsn.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import type { Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { type MemberView, rejoiningMembers } from '#operator/controllers/shard/members.ts';
import { recordOf, type Snapshot } from '#operator/controllers/shard/snapshot.ts';
import { isFenced, newMember, rejoin, type SimulatedMember, same, statusOf, textOf } from './simulated-member.ts';

export const shardUid = 'shard-uid';

export class World {
  shard: Stored<Shard>;
  readonly members = new Map<string, SimulatedMember>();
  regions: Snapshot['regions'] = ['eu', 'us', 'ap'].map((name) => ({ name, drain: false, proximity: [] }));
  /** Members that the takeover service was asked to hand over to. */
  readonly asked: MemberIdentity[] = [];
  /** How often a data directory was made from nothing. */
  initialised = 0;
  lsn = 100n;
  /** Up to here clients have been told that their commits are safe: the last of it, and by timeline. */
  acknowledged = 0n;
  readonly #acknowledgedOn = new Map<number, bigint>();
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
    const member = newMember(name, this.#newLife());
    this.members.set(name, member);
    return member;
  }

  /** Its volume is gone, and the pod starts with a new one. */
  wipe(name: string): void {
    const { declared, outdated, published, promotable } = this.member(name);
    this.members.delete(name);
    Object.assign(this.addMember(name), { declared, outdated, published, promotable });
  }

  /** Its pod ends at once; what it has flushed stays. */
  crash(name: string): void {
    Object.assign(this.member(name), { down: true, running: false, open: false, applied: false });
  }

  change(spec: Partial<Shard['spec']>): void {
    this.shard = this.#versioned({ ...this.shard, spec: { ...this.shard.spec, ...spec } });
    if (spec.postgres !== undefined) for (const member of this.members.values()) member.pendingRestart = true;
  }

  annotate(annotation: string, value: string | undefined): void {
    const { [annotation]: _, ...others } = this.shard.metadata.annotations ?? {};
    const annotations = value === undefined ? others : { ...others, [annotation]: value };
    this.shard = this.#versioned({ ...this.shard, metadata: { ...this.shard.metadata, annotations } });
  }

  /** One step of every member towards its orders. */
  tick(milliseconds = 1_000): void {
    this.now += milliseconds;
    this.lsn += 10n;
    for (const member of this.members.values())
      if (member.reachable && !member.down) member.published = member.incarnation;
    for (const member of this.members.values()) if (!member.down) this.#work(member);
    this.#acknowledge();
    this.check();
  }

  /** What the open primary may tell its clients now: k of its list have flushed it, and itself. */
  #acknowledge(): void {
    for (const primary of this.members.values()) {
      if (!primary.open || primary.inForce.acknowledgements === 0) continue;
      const position = this.#flushedBy(primary, primary.inForce.acknowledgements);
      if (position === undefined || position <= this.acknowledged) continue;
      this.acknowledged = position;
      this.#acknowledgedOn.set(primary.timeline, position);
    }
  }

  /** What so many of its list have, and it itself. */
  #flushedBy(primary: SimulatedMember, count: number): bigint | undefined {
    if (count === 0) return primary.flushed;
    return [...this.members.values()]
      .filter((member) => this.isStreaming(member) && this.#streamsFrom(member) === primary)
      .filter((member) => primary.inForce.members.some((listed) => same(listed, member)))
      .map((member) => member.flushed)
      .toSorted((a, b) => (a > b ? -1 : 1))[count - 1];
  }

  #work(member: SimulatedMember): void {
    const { orders } = member;
    if (orders === undefined) return;
    if (isFenced(member) || orders.role === 'Hold') {
      Object.assign(member, { running: false, open: false, applied: !isFenced(member) });
      return;
    }
    if (orders.role === 'Follower') this.#follow(member, orders);
    else this.#lead(member, orders);
  }

  #lead(member: SimulatedMember, orders: Orders): void {
    const { authority } = this.record ?? {};
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
    if (!member.running) {
      if (!confirmed || member.rewinding) return;
      if (member.timeline !== orders.timeline) {
        assert.ok(orders.timeline > member.timeline, 'a timeline that was given out is taken again');
        member.timeline = orders.timeline;
      }
      Object.assign(member, { data: 'primary', running: true, openedAt: this.lsn });
      this.#startWith(member, orders);
    }
    member.flushed = this.lsn;
    member.applied = true;
    member.inForce = orders.synchronous;
    const reached = this.#flushedBy(member, member.inForce.acknowledgements);
    if (reached !== undefined && reached >= member.openedAt) member.open = true;
  }

  #follow(member: SimulatedMember, orders: Orders): void {
    Object.assign(member, { running: false, open: false });
    const primary = this.#streamsFrom(member);
    if (member.data === 'absent') {
      if (primary === undefined) return;
      Object.assign(member, { data: 'standby', timeline: primary.timeline });
      this.#startWith(member, orders);
      return;
    }
    member.data = 'standby';
    if (rejoin(member).kind !== 'Stream') {
      this.#rewind(member, orders);
      return;
    }
    if (member.restartNonce !== orders.restartNonce) {
      this.#startWith(member, orders);
      return;
    }
    member.applied = true;
    // As the agent does: on a member that its orders don't count, nothing rests; it becomes a new one.
    if (member.lacksLog && !orders.synchronous.members.some((listed) => same(listed, member))) {
      const { record } = this;
      assert.ok(record === undefined || !isListed(record, member), 'a member that counts throws its data away');
      this.wipe(member.name);
      return;
    }
    if (primary !== undefined && !member.stalled)
      Object.assign(member, { timeline: primary.timeline, flushed: primary.flushed });
  }

  /** In two steps, with nothing to be read from its data between them. */
  #rewind(member: SimulatedMember, orders: Orders): void {
    if (!orders.mayRewind) return;
    const primary = this.#source(member);
    if (primary === undefined) return;
    if (!member.rewinding) {
      const { record } = this;
      const primaryIsOpen = primary.open;
      // For how long is the operator's to know; here it is whether it is away at all.
      const down = [...this.members.values()].filter((other) => other.down || !other.reachable);
      const awayMs = new Map(down.map(({ name }) => [name, awayBeforeDeposedMs]));
      assert.ok(
        record === undefined ||
          mayRewind(
            record,
            member,
            rejoiningMembers(record, this.views(), awayMs, this.shard.spec.durability.scope),
            primaryIsOpen,
          ),
        'a member that counts is rewound',
      );
      member.rewinding = true;
      return;
    }
    const need = rejoin(member);
    const forkLsn = need.kind === 'Diverged' ? need.forkLsn : 0n;
    member.rejoined = {
      how: 'Rewind',
      epoch: orders.epoch,
      forkLsn: textOf(forkLsn),
      lsn: textOf(member.flushed),
      transactions: Number(member.flushed - forkLsn),
    };
    Object.assign(member, { rewinding: false, timeline: primary.timeline, flushed: primary.flushed });
  }

  #startWith(member: SimulatedMember, orders: Orders): void {
    member.restartNonce = orders.restartNonce;
    member.pendingRestart = false;
  }

  /** The running primary of its orders that lets this member in, whatever it has. */
  #source(member: SimulatedMember): SimulatedMember | undefined {
    const { orders } = member;
    const source = orders?.source;
    const primary = source && this.members.get(source.name);
    if (orders?.role !== 'Follower' || isFenced(member)) return undefined;
    if (primary?.running !== true || primary.down || primary.incarnation !== source?.incarnation) return undefined;
    const isNamed = primary.orders?.slots.some((slot) => same(slot, member)) === true;
    return isNamed && primary.orders?.epoch === orders.epoch ? primary : undefined;
  }

  #streamsFrom(member: SimulatedMember): SimulatedMember | undefined {
    if (member.data === 'standby' && (member.lacksLog || member.rewinding || rejoin(member).kind !== 'Stream'))
      return undefined;
    return member.down ? undefined : this.#source(member);
  }

  isStreaming(member: SimulatedMember): boolean {
    return member.data === 'standby' && this.#streamsFrom(member) !== undefined;
  }

  /**
   * After every action and every step: one primary at most lets anybody in, the record is never laxer than Postgres, nothing
   * that was acknowledged is outside of the line of authority, and no fence misses any of it.
   */
  check(): void {
    const record = this.record;
    assert.ok(this.initialised <= 1, 'two data directories were made from nothing');
    if (record === undefined) return;
    const open = [...this.members.values()].filter((member) => member.open);
    assert.ok(open.length <= 1, `${open.map(({ name }) => name).join(' and ')} are open at once`);
    for (const { inForce } of open) {
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
    if (record.authority.state === 'Initialising') return;
    // From then on a failover may lose the last commits.
    if (record.membership.acknowledgements === 0) {
      this.#acknowledgedOn.clear();
      return;
    }
    for (const [timeline, lsn] of this.#acknowledgedOn)
      assert.equal(
        divergenceFrom(record, { timeline, lsn: lsn as Lsn }, record.authority.timeline),
        undefined,
        `what was acknowledged on timeline ${timeline} up to ${lsn} is lost`,
      );
    this.#checkFences(record);
  }

  /** Members of the record that can be asked, but lack an acknowledged commit, are too few to be a fence among themselves. */
  #checkFences(record: AuthorityRecord): void {
    const { acknowledgements: k, members } = record.membership;
    const lacking = [...this.members.values()].filter(
      (member) =>
        isListed(record, member) && !isPrimary(record, member) && !member.rewinding && this.#lacks(member, record),
    );
    // A fence has one member at least, also while a young record has fewer members than it will need.
    const fence = Math.max(1, members.length - k);
    assert.ok(
      lacking.length < fence,
      `a fence of ${lacking.map(({ name }) => name).join()} could miss an acknowledged commit`,
    );
  }

  #lacks(member: SimulatedMember, record: AuthorityRecord): boolean {
    return [...this.#acknowledgedOn].some(
      ([timeline, lsn]) =>
        divergenceFrom(record, { timeline, lsn: lsn as Lsn }, member.timeline) !== undefined || member.flushed < lsn,
    );
  }

  status(member: SimulatedMember): AgentStatus {
    return statusOf(member, {
      isStreaming: this.isStreaming(member),
      standbys: member.running ? this.#standbysOf(member) : [],
    });
  }

  #standbysOf(primary: SimulatedMember): AgentStatus['standbys'] {
    return [...this.members.values()]
      .filter((member) => member.reachable && this.#streamsFrom(member) === primary && member.data === 'standby')
      .map((member) => ({
        name: member.name,
        incarnation: member.incarnation,
        state: 'streaming',
        flushed: textOf(member.flushed),
        replayed: textOf(member.flushed),
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
        promotable: member.promotable,
        declared: member.declared,
        volume: 'bound',
        volumeGoing: member.volumeGoing,
        pod: {
          uid: member.podUid,
          address: `10.0.0.${member.name}`,
          ready: member.reachable && !member.down && (member.open || this.isStreaming(member)),
          ending: false,
          idle: false,
          outdated: member.outdated,
          problem: undefined,
        },
        answer:
          member.reachable && !member.down
            ? { kind: 'status', status: this.status(member) }
            : { kind: 'silent', why: 'no answer within 2000 ms' },
        lastKnown: member.published === undefined ? undefined : { name: member.name, incarnation: member.published },
      }));
  }

  /** Takes orders as the agent does. */
  order(name: string, orders: Orders): void {
    const member = this.members.get(name);
    if (member?.reachable !== true || member.down) return;
    const decision = decideOrders(orders, {
      member: { name, incarnation: member.incarnation },
      namespace: 'test',
      shard: 'a',
      promise: member.promise,
      taken: member.orders,
      hasData: member.data !== 'absent',
    });
    if (decision.kind === 'refuse') return;
    // A primary that serves on at a later epoch ends what it did at the one before.
    if (orders.epoch !== member.orders?.epoch) Object.assign(member, { running: false, open: false });
    member.promise = decision.promise;
    member.orders = orders;
    if (decision.isNew) member.applied = false;
    this.check();
  }

  /** A compare-and-swap: true when it took place. */
  swap(resourceVersion: string, record: AuthorityRecord, status: Partial<NonNullable<Shard['status']>> = {}): boolean {
    if (resourceVersion !== this.shard.metadata.resourceVersion) return false;
    const { authority, membership, history } = record;
    this.write({
      ...status,
      authority: { ...authority, target: authority.target && { ...authority.target } },
      membership: { ...membership, members: [...membership.members] },
      history: [...history],
    });
    this.check();
    return true;
  }

  /** The status with these fields, as another version. */
  write(status: Partial<NonNullable<Shard['status']>>): void {
    this.shard = this.#versioned({ ...this.shard, status: { ...this.shard.status, ...status } });
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
    Object.assign(member, { outdated: false, pendingRestart: false, applied: false, running: false, open: false });
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
