/** The beginning of a run: a shard that serves, everybody streaming, one write acknowledged. */
import { firstPromise } from '#agent/promise/record.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { leaseMarginMs, leaseMs } from '#core/authority/timing.ts';
import { replicationName } from '#core/identity.ts';
import { shardUid } from './agent.ts';
import { order } from './leader.ts';
import { append, forgetLogs } from './log.ts';
import type { Rules } from './rules.ts';
import type { Shape, SimMember, World } from './world.ts';

const letters = ['a', 'b', 'c', 'd', 'e'];

export function startWorld(shape: Shape, rules: Rules): World {
  forgetLogs();
  const names = letters.slice(0, shape.members);
  const identities = names.map((name) => ({ name, incarnation: rules.incarnationOf(name, 1) }));
  const record: AuthorityRecord = {
    authority: {
      epoch: 1,
      timeline: 1,
      member: 'a',
      incarnation: rules.incarnationOf('a', 1),
      region: 'r1',
      since: '',
      state: 'Active',
    },
    membership: { generation: 1, members: identities, acknowledgements: shape.k },
    history: [{ epoch: 1, timeline: 1, member: 'a', forkLsn: '0/0' }],
  };
  let log = append(undefined, 1, 'gate', 'a1.1');
  log = append(log, 1, 'write', 'a1.1');
  const world: World = {
    shape: { ...shape, delays: false },
    nowMs: 100_000,
    members: {},
    operators: {},
    api: {
      record,
      version: 1,
      lease: { holder: shape.k === 0 ? replicationName(identities[0] ?? identity('a')) : '', version: 1 },
    },
    leaderTerm: 1,
    attempts: 0,
    messages: [],
    cuts: [],
    kept: shape.k === 0 ? [] : [log],
    writes: 0,
  };
  names.forEach((name, index) => {
    const incarnation = rules.incarnationOf(name, 1);
    // The first and the last clock lie furthest apart.
    const clock = { offsetMs: index * 1_000_000, rate: 1 + (shape.drift * (index % 2 === 0 ? 1 : -1)) / 2 };
    const now = world.nowMs * clock.rate + clock.offsetMs;
    const member: SimMember = {
      name,
      region: `r${index + 1}`,
      promotable: true,
      clock,
      declared: true,
      volume: 1,
      incarnation,
      promise: { ...firstPromise(incarnation), shardUid, longestLeaseMs: leaseMs },
      orders: undefined,
      log,
      rewinding: false,
      up: true,
      paused: false,
      startedAtMs: now - 100_000,
      starts: 1,
      postgres: index === 0 ? 'down' : 'standby',
      released: false,
      confirmed: undefined,
      row: undefined,
      promisedAtMs: now - 100_000,
      grantedUntilMs: index === 0 ? 0 : now + leaseMs,
      servingHeardAtMs: index === 0 ? undefined : now,
      walHeardAtMs: index === 0 ? undefined : now,
      held: {},
      kubernetesUntilMs: 0,
      leaseSeen: undefined,
      former: undefined,
      horizonMs: 0,
      reported: {},
    };
    world.members[name] = member;
  });
  for (let index = 1; index <= shape.operators; index += 1)
    world.operators[`op${index}`] = {
      name: `op${index}`,
      clock: { offsetMs: index * 7_000_000, rate: 1 - shape.drift / 2 },
      up: true,
      term: index === 1 ? 1 : 0,
      sequence: 0,
      cache: { record, version: 1 },
      watch: {},
      lease: undefined,
      wish: undefined,
      attempt: undefined,
      noted: undefined,
    };
  serve(world, rules, names);
  world.shape = shape;
  return world;
}

const identity = (name: string) => ({ name, incarnation: '' });

/** By real orders, as the leader would send them. */
function serve(world: World, rules: Rules, names: readonly string[]): void {
  const leader = world.operators['op1'];
  const primary = world.members['a'];
  if (leader === undefined || primary === undefined) return;
  order(world, rules, leader, names);
  const now = world.nowMs * primary.clock.rate + primary.clock.offsetMs;
  primary.postgres = 'open';
  primary.confirmed = { epoch: 1, atMs: now };
  primary.row = primary.log?.before;
  for (const name of names.slice(1)) {
    const follower = `${name}/${rules.incarnationOf(name, 1)}`;
    primary.held[follower] = now + leaseMs - leaseMarginMs;
    if (primary.log !== undefined) primary.reported[follower] = primary.log;
  }
  primary.kubernetesUntilMs = world.shape.k === 0 ? now + 10_000 : 0;
}
