/**
 * A simulated operator replica's takeovers: watch, begin an attempt, do what `decideTakeover` says next, and nothing else.
 * What the leader does besides (orders, membership) is in `leader.ts`. An operator that isn't called is one that is paused.
 */
import { isDeepStrictEqual } from 'node:util';
import { type AuthorityRecord, primaryOf } from '#core/authority/record.ts';
import type { Ping } from '#core/authority/suspicion.ts';
import type { TakeoverAction, TakeoverInput } from '#core/authority/takeover.ts';
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import { shardUid } from './agent.ts';
import { ship } from './following.ts';
import { areLinked, send } from './network.ts';
import type { Rules } from './rules.ts';
import { type Attempt, local, type Message, memberOf, type SimOperator, type Snapshot, type World } from './world.ts';

/** How long an answer is waited for. */
const answerMs = 1_000;
const longMs = 60_000;
const regions = ['r1', 'r2', 'r3', 'r4', 'r5'];

/** The agents' words of authority, and the Kubernetes Lease. */
export function poll(world: World, rules: Rules, operator: SimOperator): boolean {
  if (!operator.up) return false;
  const now = local(world, operator);
  for (const member of operator.cache.record.membership.members) {
    const name = replicationName(member);
    const known = operator.watch[name];
    if (known === undefined || (known.kind === 'Answered' && now - known.atMs > answerMs))
      operator.watch[name] = { kind: 'Silent', sinceMs: now };
    send(world, rules, { type: 'ping', from: operator.name, to: member.name, attempt: 0 });
  }
  const listed = operator.cache.record.membership.members.map(({ name }) => name);
  for (const name of Object.keys(world.members))
    if (!listed.includes(name)) send(world, rules, { type: 'ping', from: operator.name, to: name, attempt: 0 });
  watchLease(world, operator);
  return true;
}

function watchLease(world: World, operator: SimOperator): void {
  if (!areLinked(world, operator.name, 'api')) return;
  const { version, holder } = world.api.lease;
  if (operator.lease?.version !== version) operator.lease = { version, holder, sinceMs: local(world, operator) };
}

/** Its informer catches up. */
export function observe(world: World, operator: SimOperator): boolean {
  if (!operator.up || !areLinked(world, operator.name, 'api') || operator.cache.version === world.api.version)
    return false;
  operator.cache = { record: world.api.record, version: world.api.version };
  return true;
}

export function begin(world: World, rules: Rules, operator: SimOperator, isFalseAlarm = false): boolean {
  if (!operator.up || operator.attempt !== undefined) return false;
  const now = local(world, operator);
  const { cache, wish } = operator;
  const isWanted =
    isFalseAlarm ||
    wish !== undefined ||
    cache.record.authority.state === 'Stopping' ||
    rules.suspicionOf({
      record: cache.record,
      pings: new Map(Object.entries(operator.watch)),
      kubernetesLease: watched(operator),
      nowMs: now,
    }).kind !== 'None';
  if (!isWanted || !areLinked(world, operator.name, 'api')) return false;
  const { record, version } = world.api;
  const target = isFalseAlarm ? undefined : record.authority.state === 'Stopping' ? record.authority.target : wish;
  world.attempts += 1;
  operator.cache = { record, version };
  operator.attempt = {
    id: world.attempts,
    intent: target === undefined ? { kind: 'Recover' } : { kind: 'Handover', target },
    startedAtMs: now,
    record,
    version,
    readAtMs: now,
    pings: { ...unlisted(operator, record) },
    fences: {},
    isFalseAlarm,
    waitsForPut: false,
  };
  return true;
}

/** What the watch has of those that don't count. */
const unlisted = ({ watch }: SimOperator, { membership }: AuthorityRecord): Record<string, Ping> =>
  Object.fromEntries(
    Object.entries(watch).filter(([name]) => !membership.members.some((member) => replicationName(member) === name)),
  );

const watched = ({ lease }: SimOperator): TakeoverInput['kubernetesLease'] =>
  lease && { holder: lease.holder, unchangedSinceMs: lease.sinceMs };

/** What the attempt would do next; undefined while it waits for an answer. */
export function nextAction(world: World, rules: Rules, operator: SimOperator): TakeoverAction | undefined {
  const { attempt } = operator;
  if (!operator.up || attempt === undefined || attempt.waitsForPut) return undefined;
  const now = local(world, operator);
  return rules.decideTakeover({
    record: attempt.record,
    recordReadAtMs: attempt.readAtMs,
    intent: attempt.intent,
    pings: seemingly(attempt, now),
    fences: new Map(Object.entries(attempt.fences)),
    candidates: Object.values(world.members).map(({ name, region, promotable, declared }) => ({
      name,
      region,
      promotable: promotable && declared,
    })),
    regions,
    kubernetesLease: watched(operator),
    startedAtMs: attempt.startedAtMs,
    nowMs: now,
    since: '',
  });
}

/** What a false alarm makes of the answers: the primary silent for long, and nobody in contact with it. */
function seemingly(attempt: Attempt, nowMs: number): TakeoverInput['pings'] {
  const pings = new Map<string, Ping>(Object.entries(attempt.pings));
  if (!attempt.isFalseAlarm) return pings;
  for (const [name, ping] of pings) {
    if (name === replicationName(primaryOf(attempt.record)))
      pings.set(name, { kind: 'Silent', sinceMs: nowMs - longMs });
    else if (ping.kind === 'Answered' && ping.answer.follower !== undefined) {
      const follower = { ...ping.answer.follower, servingHeardMs: longMs, walHeardMs: longMs };
      pings.set(name, { ...ping, answer: { ...ping.answer, follower } });
    }
  }
  return pings;
}

export function step(world: World, rules: Rules, operator: SimOperator): boolean {
  const { attempt } = operator;
  const action = nextAction(world, rules, operator);
  if (attempt === undefined || action === undefined) return false;
  switch (action.kind) {
    case 'Nothing':
      operator.attempt = undefined;
      operator.wish = undefined;
      return true;
    case 'Ping':
      for (const member of action.members) ask(world, rules, operator, attempt, member);
      return true;
    case 'Reread':
      return reread(world, operator, attempt);
    case 'Fence':
      for (const member of action.members) fence(world, rules, operator, attempt, member, action);
      return true;
    case 'WaitOut':
      for (const member of action.fence)
        fence(world, rules, operator, attempt, member, { epoch: action.epoch, handover: false });
      return true;
    case 'Ship':
      ship(world, memberOf(world, action.from.name), memberOf(world, action.to.name), action.epoch);
      for (const member of [action.to, ...action.fence])
        fence(world, rules, operator, attempt, member, { epoch: action.epoch, handover: false });
      return true;
    case 'HandLease':
      return handLease(world, operator, action.holder);
    case 'Announce':
    case 'Decide':
      return put(world, rules, operator, attempt, action.record);
    default:
      return action satisfies never;
  }
}

/** Silent until it answers, for as long as the watch has known. */
function ask(world: World, rules: Rules, operator: SimOperator, attempt: Attempt, member: MemberIdentity): void {
  const name = replicationName(member);
  const known: Ping | undefined = operator.watch[name];
  const sinceMs = known?.kind === 'Silent' ? known.sinceMs : local(world, operator);
  attempt.pings[name] = { kind: 'Silent', sinceMs };
  send(world, rules, { type: 'ping', from: operator.name, to: member.name, attempt: attempt.id });
}

function fence(
  world: World,
  rules: Rules,
  operator: SimOperator,
  attempt: Attempt,
  member: MemberIdentity,
  { epoch, handover }: { readonly epoch: number; readonly handover: boolean },
): void {
  const isUnderWay = world.messages.some(
    (message) =>
      message.type === 'fence' &&
      message.from === operator.name &&
      message.to === member.name &&
      message.question.epoch === epoch,
  );
  if (isUnderWay) return;
  send(world, rules, {
    type: 'fence',
    from: operator.name,
    to: member.name,
    attempt: attempt.id,
    question: { shardUid, member, epoch, by: operator.name, handover },
  });
}

function handLease(world: World, operator: SimOperator, holder: MemberIdentity): boolean {
  if (!areLinked(world, operator.name, 'api') || operator.lease === undefined) return false;
  if (operator.lease.version === world.api.lease.version)
    world.api.lease = { holder: replicationName(holder), version: world.api.lease.version + 1 };
  watchLease(world, operator);
  return true;
}

/** Whatever comes of it: until the answer is there, or the record was read again, nothing else is done. */
function put(world: World, rules: Rules, operator: SimOperator, attempt: Attempt, record: AuthorityRecord): boolean {
  attempt.waitsForPut = true;
  send(world, rules, {
    type: 'put',
    from: operator.name,
    to: 'api',
    attempt: attempt.id,
    record,
    version: rules.versionForPut(attempt.version, world.api.version),
  });
  return true;
}

/** After a conflict, a time-out, or a promise that doesn't fit: on only where nothing of authority has changed (trap A10). */
export function reread(world: World, operator: SimOperator, attempt: Attempt): boolean {
  if (!areLinked(world, operator.name, 'api')) return false;
  const { record, version } = world.api;
  operator.cache = { record, version };
  if (!isDeepStrictEqual(record, attempt.record)) {
    operator.attempt = undefined;
    return true;
  }
  attempt.waitsForPut = false;
  attempt.version = version;
  attempt.readAtMs = local(world, operator);
  return true;
}

/** The answer to its PUT doesn't come. */
export function giveUpPut(world: World, operator: SimOperator): boolean {
  const { attempt } = operator;
  if (!operator.up || attempt?.waitsForPut !== true) return false;
  return reread(world, operator, attempt);
}

export function onPong(world: World, operator: SimOperator, message: Extract<Message, { type: 'pong' }>): void {
  const name = replicationName(message.answer.member);
  const ping = { kind: 'Answered', answer: message.answer, atMs: local(world, operator) } as const;
  operator.watch[name] = ping;
  if (operator.attempt !== undefined && operator.attempt.id === message.attempt)
    operator.attempt.pings[name] = { ...ping, position: message.position };
}

export function onFenced(world: World, operator: SimOperator, message: Extract<Message, { type: 'fenced' }>): void {
  const { attempt } = operator;
  if (attempt === undefined || attempt.id !== message.attempt) return;
  attempt.fences[message.member] = { ...message.outcome, atMs: local(world, operator) };
}

export function onStored(world: World, operator: SimOperator, message: Extract<Message, { type: 'stored' }>): void {
  const { attempt } = operator;
  if (attempt === undefined || attempt.id !== message.attempt || !attempt.waitsForPut) return;
  if (!message.took) {
    reread(world, operator, attempt);
    return;
  }
  const hasDecided = message.snapshot.record.authority.epoch !== attempt.record.authority.epoch;
  operator.cache = newer(operator.cache, message.snapshot);
  attempt.waitsForPut = false;
  attempt.record = message.snapshot.record;
  attempt.version = message.snapshot.version;
  attempt.readAtMs = local(world, operator);
  if (!hasDecided) {
    // A handover that was taken back is over; one that was announced goes on.
    if (attempt.record.authority.state === 'Active') operator.attempt = undefined;
    return;
  }
  operator.attempt = undefined;
  operator.wish = undefined;
}

const newer = (a: Snapshot, b: Snapshot): Snapshot => (b.version > a.version ? b : a);

export function crashOperator(operator: SimOperator): boolean {
  if (!operator.up) return false;
  Object.assign(operator, {
    up: false,
    term: 0,
    watch: {},
    lease: undefined,
    wish: undefined,
    attempt: undefined,
    noted: undefined,
  });
  return true;
}

/** A new process lists everything first. */
export function restartOperator(world: World, operator: SimOperator): boolean {
  if (operator.up || !areLinked(world, operator.name, 'api')) return false;
  operator.up = true;
  operator.cache = { record: world.api.record, version: world.api.version };
  return true;
}
