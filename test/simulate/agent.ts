/**
 * A simulated member: the thin agent around the decisions, and as much of Postgres as matters (a log, what followers reported,
 * open or shut). Each function is one thing that an agent does at once; the caller chooses when.
 * Where a sentence of the protocol allows an agent to be late, the simulator may leave the function uncalled for ever.
 */
import { isDeepStrictEqual } from 'node:util';
import { kubernetesLeaseMs, leaseMarginMs, leaseMs } from '#core/authority/timing.ts';
import { replicationName } from '#core/identity.ts';
import type { AuthorityAnswer, FenceQuestion } from '#core/protocol/authority.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { keep, Violation } from './invariants.ts';
import { append, at, contains, type LogEntry, lsnOf, positionIn } from './log.ts';
import { crash } from './member-faults.ts';
import { areLinked, send } from './network.ts';
import type { Rules } from './rules.ts';
import { type FenceReply, identityOf, local, type SimMember, type World } from './world.ts';

export const shardUid = 'shard';
const place = { namespace: 'sim', shard: 'shard' };
/** How long a confirmation of the record opens a closed Postgres. */
const confirmationMs = 5_000;

export const works = (member: SimMember): boolean => member.up && !member.paused;
export const isPrimaryProcess = ({ postgres }: SimMember): boolean => postgres === 'shut' || postgres === 'open';

/** The orders that its promise still lets it work by. */
export function standing(rules: Rules, member: SimMember): Orders | undefined {
  return member.orders !== undefined && rules.isWithinPromise(member.orders, member.promise)
    ? member.orders
    : undefined;
}

export function leads(rules: Rules, member: SimMember): Orders | undefined {
  const orders = standing(rules, member);
  if (orders?.role !== 'Primary') return undefined;
  return rules.mayLead(member.promise, orders.epoch, replicationName(member)) ? orders : undefined;
}

// ---- Lease -------------------------------------------------------------------------------------------------------

/** Under the present settings, on its own clock; null where none is needed. */
export function expiry(rules: Rules, member: SimMember): number | null {
  if (member.orders?.role !== 'Primary') return 0;
  return rules.expiryOf(member.orders.lease, new Map(Object.entries(member.held)), member.kubernetesUntilMs);
}

/**
 * Until when it may stand: by the settings from before a change until the present ones are first fulfilled. The record isn't
 * laxer than either before they are.
 */
export function standsUntil(world: World, rules: Rules, member: SimMember): number | null {
  const present = expiry(rules, member);
  if (member.former === undefined) return present;
  if (present === null || present > local(world, member)) {
    member.former = undefined;
    return present;
  }
  const { lease, held } = member.former;
  return rules.expiryOf(lease, new Map(Object.entries(held)), member.kubernetesUntilMs);
}

function leaseRemaining(world: World, rules: Rules, member: SimMember): number | null {
  const until = expiry(rules, member);
  return until === null ? null : Math.max(0, until - local(world, member));
}

/** A router that asks now may deliver until then, whatever happens to the lease afterwards. */
function noteHorizon(world: World, rules: Rules, member: SimMember): void {
  if (member.postgres !== 'open' || leads(rules, member) === undefined) return;
  const now = local(world, member);
  const until = standsUntil(world, rules, member);
  member.horizonMs = Math.max(member.horizonMs, now + rules.deliverableMs(until === null ? null : until - now));
}

/** Whether a client could now have a write acknowledged, or a strong read delivered, that it began after this moment. */
export function canServe(world: World, rules: Rules, member: SimMember): boolean {
  if (!member.up || member.postgres !== 'open') return false;
  if (!member.paused) noteHorizon(world, rules, member);
  return !member.paused && local(world, member) < member.horizonMs;
}

export function ask(world: World, rules: Rules, primary: SimMember, follower: SimMember): boolean {
  const orders = leads(rules, primary);
  if (orders === undefined || !works(primary) || primary.released || primary === follower) return false;
  return send(world, rules, {
    type: 'request',
    from: primary.name,
    to: follower.name,
    epoch: orders.epoch,
    generation: orders.generation,
    sentAtMs: local(world, primary),
    starts: primary.startedAtMs,
    sender: replicationName(primary),
  });
}

export function grant(
  world: World,
  rules: Rules,
  follower: SimMember,
  request: { from: string; sender: string; epoch: number; generation: number; sentAtMs: number; starts: number },
): void {
  if (!rules.mayGrant(follower.promise, { epoch: request.epoch, from: request.sender })) return;
  const now = local(world, follower);
  follower.grantedUntilMs = Math.max(follower.grantedUntilMs, now + leaseMs);
  follower.promise = { ...follower.promise, longestLeaseMs: leaseMs };
  follower.servingHeardAtMs = now;
  send(world, rules, {
    type: 'grant',
    from: follower.name,
    to: request.from,
    epoch: request.epoch,
    generation: request.generation,
    sentAtMs: request.sentAtMs,
    starts: request.starts,
    sender: replicationName(follower),
  });
}

export function hold(
  world: World,
  rules: Rules,
  primary: SimMember,
  given: { sender: string; epoch: number; generation: number; sentAtMs: number; starts: number },
): void {
  const orders = leads(rules, primary);
  if (orders?.epoch !== given.epoch || orders.generation !== given.generation) return;
  if (given.starts !== primary.startedAtMs) return;
  const untilMs = given.sentAtMs + leaseMs - leaseMarginMs;
  const raise = (held: Record<string, number>): void => {
    held[given.sender] = Math.max(held[given.sender] ?? 0, untilMs);
  };
  if (primary.former !== undefined) raise(primary.former.held);
  if (orders.lease.members.some((member) => replicationName(member) === given.sender)) raise(primary.held);
  noteHorizon(world, rules, primary);
}

/** The Kubernetes Lease: taken where it is free, its own, or seen unchanged for its whole length. */
export function renew(world: World, rules: Rules, member: SimMember): boolean {
  if (!works(member) || leads(rules, member)?.lease.kubernetes !== true || member.released) return false;
  if (!areLinked(world, member.name, 'api')) return false;
  const now = local(world, member);
  const { holder, version } = world.api.lease;
  if (member.leaseSeen?.version !== version) member.leaseSeen = { version, sinceMs: now };
  const mayTake =
    holder === '' || holder === replicationName(member) || now - member.leaseSeen.sinceMs >= kubernetesLeaseMs;
  if (!mayTake) return true;
  world.api.lease = { holder: replicationName(member), version: version + 1 };
  member.kubernetesUntilMs = now + kubernetesLeaseMs - leaseMarginMs;
  noteHorizon(world, rules, member);
  return true;
}

/** The dead man's handle: it needs no agent, only a machine that runs. Behind a shut gate there is nothing that it has to end. */
export function handle(world: World, rules: Rules, member: SimMember): void {
  if (!works(member) || member.postgres !== 'open') return;
  const until = standsUntil(world, rules, member);
  if (until === null || local(world, member) < until) return;
  crash(member);
}

// ---- Orders, promises, fences --------------------------------------------------------------------------------------

export function takeOrders(world: World, rules: Rules, member: SimMember, orders: Orders): void {
  const taken = standing(rules, member);
  const decision = rules.decideOrders(orders, {
    member: identityOf(member),
    ...place,
    promise: member.promise,
    taken,
    hasData: member.log !== undefined,
  });
  if (decision.kind === 'refuse') return;
  promise(world, member, decision.promise);
  member.orders = orders;
  if (orders.role === 'Primary' && taken?.role === 'Primary' && taken.epoch === orders.epoch)
    changeSettings(member, taken, orders);
  else if (taken?.epoch !== orders.epoch || taken.role !== orders.role) {
    if (member.postgres !== 'standby') member.postgres = 'down';
    stopLeading(member);
  }
  if (orders.role === 'Follower' && member.log !== undefined && !member.rewinding) member.postgres = 'standby';
}

/** Grants of requests from before a change don't count for what comes after it (ambiguity 6). */
function changeSettings(member: SimMember, before: Orders, after: Orders): void {
  if (before.generation === after.generation && isDeepStrictEqual(before.lease, after.lease)) return;
  member.former ??= { lease: before.lease, held: member.held };
  member.held = {};
}

export function stopLeading(member: SimMember): void {
  member.held = {};
  member.former = undefined;
  member.reported = {};
  member.row = undefined;
  member.confirmed = undefined;
  member.released = false;
  member.kubernetesUntilMs = 0;
}

function promise(world: World, member: SimMember, next: SimMember['promise']): void {
  if (next.epoch !== member.promise.epoch) member.promisedAtMs = local(world, member);
  member.promise = next;
}

export function fence(world: World, rules: Rules, member: SimMember, question: FenceQuestion): FenceReply {
  const decision = rules.decideFence(question, identityOf(member), member.promise);
  const now = local(world, member);
  const said = (): { epoch: number; grantee: string; ageMs: number } => ({
    epoch: member.promise.epoch,
    grantee: member.promise.grantee,
    ageMs: now - member.promisedAtMs,
  });
  if (decision.kind === 'Refuse')
    return { kind: 'Refused', refusal: { code: decision.code, message: decision.message, promise: said() } };
  promise(world, member, { ...member.promise, ...decision.promise });
  if (isPrimaryProcess(member) && question.handover) {
    // The fast stop of a handover: followers get the last of the log while it ends.
    member.postgres = 'stopping';
    member.log = append(member.log, member.log?.timeline ?? 1, 'shutdown', writerOf(member));
    return { kind: 'Refused', refusal: { code: 'Busy', message: 'stops', promise: said() } };
  }
  if (member.postgres !== 'standby') member.postgres = 'down';
  stopLeading(member);
  return {
    kind: 'Fenced',
    fenced: {
      member: identityOf(member),
      epoch: question.epoch,
      position: positionOnDisk(member),
      problem: '',
      leaseRemainingMs: grantRemaining(world, rules, member),
      stopped: true,
      systemIdentifier: '1',
    },
  };
}

const grantRemaining = (world: World, rules: Rules, member: SimMember): number => {
  const nowMs = local(world, member);
  return rules.grantRemainingMs({
    grantedUntilMs: member.grantedUntilMs,
    longestLeaseMs: member.promise.longestLeaseMs,
    ageMs: nowMs - member.startedAtMs,
    nowMs,
  });
};

export const positionOnDisk = ({ log, rewinding }: SimMember): { timeline: number; lsn: string } | null =>
  log === undefined || rewinding ? null : positionIn(log);

/** `POST /v1/authority`. */
export function answer(world: World, rules: Rules, member: SimMember): AuthorityAnswer {
  const now = local(world, member);
  const orders = standing(rules, member);
  const { epoch, grantee, generation } = member.promise;
  const since = (heardAtMs: number | undefined): number | null => (heardAtMs === undefined ? null : now - heardAtMs);
  return {
    member: identityOf(member),
    shardUid,
    region: member.region,
    version: 1,
    state: member.postgres === 'open' ? 'open' : member.postgres === 'shut' ? 'opening' : 'following',
    promise: { epoch, grantee, generation, ageMs: now - member.promisedAtMs },
    agentAgeMs: now - member.startedAtMs,
    ...(orders?.role === 'Primary' && {
      primary: {
        epoch: orders.epoch,
        timeline: orders.timeline,
        serving: isPrimaryProcess(member),
        leaseRemainingMs: leaseRemaining(world, rules, member),
        leaseNumber: 0,
        released: member.released,
      },
    }),
    ...(orders?.role === 'Follower' &&
      orders.source !== undefined && {
        follower: {
          source: { name: orders.source.name, incarnation: orders.source.incarnation },
          epoch: orders.epoch,
          servingHeardMs: since(member.servingHeardAtMs),
          walHeardMs: since(member.walHeardAtMs),
          grantRemainingMs: grantRemaining(world, rules, member),
        },
      }),
  };
}

// ---- Leading -------------------------------------------------------------------------------------------------------

/** Reads the record at the API server. */
export function confirm(world: World, rules: Rules, member: SimMember): boolean {
  const orders = leads(rules, member);
  if (orders === undefined || !works(member) || !areLinked(world, member.name, 'api')) return false;
  const { authority } = world.api.record;
  const isNamed = authority.epoch === orders.epoch && authority.member === member.name;
  if (!isNamed || authority.incarnation !== member.incarnation) return false;
  member.confirmed = { epoch: orders.epoch, atMs: local(world, member) };
  return true;
}

function confirmedEpoch(world: World, rules: Rules, member: SimMember, orders: Orders): number {
  const now = local(world, member);
  if (isPrimaryProcess(member) && member.confirmed !== undefined) return member.confirmed.epoch;
  if (member.confirmed !== undefined && now - member.confirmed.atMs < confirmationMs) return member.confirmed.epoch;
  // k grants for exactly this epoch and member say the same as the record (ambiguity 16).
  const until = expiry(rules, member);
  return orders.lease.required > 0 && until !== null && until > now ? orders.epoch : 0;
}

/** Starts Postgres as primary behind its gate; a standby, or data of an older timeline, is promoted. */
export function start(world: World, rules: Rules, member: SimMember): boolean {
  const orders = standing(rules, member);
  if (orders?.role !== 'Primary' || !works(member) || member.released || member.log === undefined) return false;
  if (member.rewinding || (member.postgres !== 'down' && member.postgres !== 'standby')) return false;
  const obstacle = rules.whyNotStart({
    ordered: orders,
    confirmedEpoch: confirmedEpoch(world, rules, member, orders),
    leads: leads(rules, member) !== undefined,
  });
  if (obstacle !== undefined) return false;
  member.confirmed ??= { epoch: orders.epoch, atMs: local(world, member) };
  member.starts += 1;
  member.postgres = 'shut';
  member.row = undefined;
  member.reported = {};
  if (member.log.timeline !== orders.timeline)
    member.log = append(member.log, orders.timeline, 'promoted', writerOf(member));
  return true;
}

export function writeRow(member: SimMember): boolean {
  if (!works(member) || member.postgres !== 'shut' || member.row !== undefined || member.log === undefined)
    return false;
  member.log = append(member.log, member.log.timeline, 'gate', writerOf(member));
  member.row = member.log;
  return true;
}

export function open(world: World, rules: Rules, member: SimMember): boolean {
  const orders = standing(rules, member);
  if (!works(member) || member.postgres !== 'shut' || orders === undefined) return false;
  const isCommitted = member.row !== undefined && acknowledgedLength(member, orders) >= member.row.length;
  const obstacle = rules.whyShut({
    ordered: orders,
    confirmedEpoch: confirmedEpoch(world, rules, member, orders),
    leads: leads(rules, member) !== undefined,
    leaseRemainingMs: leaseRemaining(world, rules, member),
    runningTimeline: member.log?.timeline ?? 0,
    isShut: true,
    settingsApplied: true,
    row: member.row === undefined ? 'Unwritten' : isCommitted ? 'Committed' : 'Waiting',
  });
  if (obstacle !== undefined) return false;
  member.postgres = 'open';
  noteHorizon(world, rules, member);
  // All that was written before this opening can be read from now on.
  const seen = member.row ?? member.log;
  if (orders.synchronous.acknowledgements > 0 && seen !== undefined) keep(world, member, seen, 'seen');
  return true;
}

export function write(world: World, rules: Rules, member: SimMember): boolean {
  if (!canServe(world, rules, member) || member.log === undefined) return false;
  member.log = append(member.log, member.log.timeline, 'write', writerOf(member));
  world.writes += 1;
  return true;
}

/** Clients get their answers, as far as the sync list lets them. */
export function acknowledge(world: World, rules: Rules, member: SimMember): boolean {
  if (!canServe(world, rules, member) || member.orders === undefined || member.log === undefined) return false;
  const entry = at(member.log, acknowledgedLength(member, member.orders));
  if (entry === undefined || world.kept.some((kept) => contains(kept, entry))) return false;
  if (member.orders.synchronous.acknowledgements > 0) keep(world, member, entry, 'acknowledged');
  return true;
}

/** How far `ANY k (...)` is satisfied. */
function acknowledgedLength({ reported, log }: SimMember, { synchronous }: Orders): number {
  if (synchronous.acknowledgements === 0) return log?.length ?? 0;
  const flushed = synchronous.members
    .map((listed) => reported[replicationName(listed)]?.length ?? 0)
    .toSorted((a, b) => b - a);
  return flushed[synchronous.acknowledgements - 1] ?? 0;
}

export function report(primary: SimMember, said: { sender: string; entry: LogEntry; starts: number }): void {
  const isRunning = isPrimaryProcess(primary) || primary.postgres === 'stopping';
  if (!isRunning || said.starts !== primary.starts) return;
  if (!contains(primary.log, said.entry))
    throw new Violation('Corruption', `${said.sender} reports an entry that ${primary.name} doesn't have`);
  const before = primary.reported[said.sender];
  if (before === undefined || before.length < said.entry.length) primary.reported[said.sender] = said.entry;
}

/** Its Postgres can't be started any more: it gives its epoch up. */
export function release(rules: Rules, member: SimMember): boolean {
  if (leads(rules, member) === undefined || !works(member) || member.released) return false;
  if (member.postgres !== 'down') return false;
  member.released = true;
  member.held = {};
  member.former = undefined;
  return true;
}

const writerOf = ({ name, volume, starts }: SimMember): string => `${name}${volume}.${starts}`;

export const flushedLsn = (entry: LogEntry | undefined) => (entry === undefined ? undefined : lsnOf(entry));
