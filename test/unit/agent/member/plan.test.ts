import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type MemberView, nextStep, type ServerView, type Step } from '#agent/member/plan.ts';
import { ordersWith } from '../orders/orders-fixture.ts';

const running = (wish: Partial<Extract<ServerView, { state: 'running' }>>): ServerView => ({
  state: 'running',
  as: 'primary',
  isReady: true,
  isOpen: true,
  configuration: 'c1',
  restartNonce: '',
  timeline: 1,
  ...wish,
});
const isPrimary = (server: ServerView | undefined): boolean => server?.state === 'running' && server.as === 'primary';
const view = (wish: Partial<MemberView>): MemberView => ({
  orders: undefined,
  former: undefined,
  data: 'absent',
  dataTimeline: 1,
  hadData: false,
  server: { state: 'stopped' },
  mayHaveClients: wish.server?.state === 'running' && wish.server.isOpen,
  wantedConfiguration: 'c1',
  confirmedEpoch: 0,
  isLeaseHeld: true,
  mayStartWithoutLease: false,
  isArmed: isPrimary(wish.server),
  opening: 'passed',
  openingEpoch: 1,
  isReleased: false,
  isHandingOver: false,
  isRejoinBegun: false,
  rejoin: { kind: 'Follow' },
  isWalRemoved: false,
  retryInMs: 0,
  ...wish,
});
const initialise = ordersWith({ role: 'Initialise' });
const primary = ordersWith({ role: 'Primary' });
const follower = ordersWith({ role: 'Follower' });
const hold = ordersWith({ role: 'Hold' });
const second = ordersWith({ role: 'Primary', epoch: 2, timeline: 2 });
const diverged = { timeline: 1, forkLsn: '0/1', lsn: '0/2', waiting: true };

const cases: readonly [string, Partial<MemberView>, Partial<Step>][] = [
  ['without orders it waits', {}, { kind: 'rest', phase: 'Waiting' }],
  ['without orders nothing runs', { data: 'primary', server: running({}) }, { kind: 'stop' }],
  ['held, it stops', { orders: hold, data: 'primary', server: running({}) }, { kind: 'stop', phase: 'Holding' }],
  ['held and stopped, it rests', { orders: hold, data: 'primary' }, { kind: 'rest', phase: 'Holding' }],
  ['it asks who has the authority before it initialises', { orders: initialise }, { kind: 'confirm' }],
  ['confirmed, it initialises', { orders: initialise, confirmedEpoch: 1 }, { kind: 'initialise' }],
  [
    'after a failed attempt it waits a little',
    { orders: initialise, confirmedEpoch: 1, retryInMs: 9 },
    { kind: 'rest', retryInMs: 9 },
  ],
  ['a confirmation of another epoch is none', { orders: initialise, confirmedEpoch: 2 }, { kind: 'confirm' }],
  ['a primary without data fails', { orders: primary, confirmedEpoch: 1 }, { kind: 'rest', phase: 'Failed' }],
  [
    'a standby that is to be primary starts as what it is, without asking',
    { orders: primary, data: 'standby' },
    { kind: 'start', as: 'standby', phase: 'Promoting' },
  ],
  [
    'it asks before it is promoted',
    { orders: second, data: 'standby', server: running({ as: 'standby' }) },
    { kind: 'confirm', phase: 'Promoting' },
  ],
  [
    'confirmed, it waits for its lease',
    { orders: second, data: 'standby', server: running({ as: 'standby' }), confirmedEpoch: 2, isLeaseHeld: false },
    { kind: 'rest', phase: 'Promoting' },
  ],
  [
    'with both it is promoted',
    { orders: second, data: 'standby', server: running({ as: 'standby' }), confirmedEpoch: 2 },
    { kind: 'promote' },
  ],
  [
    'half rewound data is nobody to promote',
    { orders: second, data: 'standby', isRejoinBegun: true },
    { kind: 'rest', phase: 'Failed' },
  ],
  [
    'a primary that was decided anew after a stop comes back on the new timeline',
    { orders: second, data: 'primary', confirmedEpoch: 2, dataTimeline: 1 },
    { kind: 'makeStandby', phase: 'Promoting' },
  ],
  [
    'on the recorded timeline already it starts as it is',
    { orders: second, data: 'primary', confirmedEpoch: 2, dataTimeline: 2 },
    { kind: 'start', as: 'primary' },
  ],
  [
    'data of a later timeline than the recorded one is not started',
    { orders: primary, data: 'primary', confirmedEpoch: 1, dataTimeline: 2 },
    { kind: 'rest', phase: 'Failed' },
  ],
  [
    'a primary waits for its lease before it starts',
    { orders: primary, data: 'primary', confirmedEpoch: 1, isLeaseHeld: false },
    { kind: 'rest', phase: 'Confirming' },
  ],
  [
    'the handle is let go first once Postgres is down',
    { orders: primary, data: 'primary', confirmedEpoch: 1, isArmed: true },
    { kind: 'disarm' },
  ],
  [
    'up, it begins its opening',
    { orders: primary, data: 'primary', confirmedEpoch: 1, server: running({ isOpen: false }), opening: 'none' },
    { kind: 'beginOpening', phase: 'Opening' },
  ],
  [
    'and keeps slots and lists in order while followers come',
    { orders: primary, data: 'primary', confirmedEpoch: 1, server: running({ isOpen: false }), opening: 'waiting' },
    { kind: 'maintain', phase: 'Opening' },
  ],
  [
    'a changed list comes into force behind the gate, too',
    {
      orders: primary,
      data: 'primary',
      confirmedEpoch: 1,
      server: running({ isOpen: false, configuration: 'c0' }),
      opening: 'waiting',
    },
    { kind: 'reconfigure', access: 'closed' },
  ],
  [
    'but an attempt to open it, whose end did not come, is not taken back: some may be inside',
    {
      orders: primary,
      data: 'primary',
      confirmedEpoch: 1,
      server: running({ isOpen: false, configuration: '' }),
      mayHaveClients: true,
    },
    { kind: 'reconfigure', access: 'open' },
  ],
  [
    'past the gate it opens only with its lease',
    { orders: primary, data: 'primary', confirmedEpoch: 1, server: running({ isOpen: false }), isLeaseHeld: false },
    { kind: 'rest', phase: 'Opening' },
  ],
  [
    'the same primary at another epoch goes on, open, and writes it down',
    { orders: { ...second, timeline: 1 }, data: 'primary', confirmedEpoch: 2, server: running({}) },
    { kind: 'beginOpening', phase: 'Primary' },
  ],
  [
    'a primary on another timeline than the recorded one is stopped',
    { orders: second, data: 'primary', confirmedEpoch: 2, server: running({}) },
    { kind: 'stop', mode: 'immediate' },
  ],
  [
    'a primary that process 1 does not watch is stopped, whatever else is well',
    { orders: primary, data: 'primary', confirmedEpoch: 1, server: running({}), isArmed: false },
    { kind: 'stop', mode: 'immediate' },
  ],
  [
    'an epoch that is given up is ended',
    { orders: primary, data: 'primary', confirmedEpoch: 1, server: running({ isReady: false }), isReleased: true },
    { kind: 'stop', phase: 'Released' },
  ],
  [
    'and rests',
    { orders: primary, data: 'primary', confirmedEpoch: 1, isReleased: true },
    { kind: 'rest', phase: 'Released' },
  ],
  [
    'a fenced primary is stopped at once',
    { former: primary, data: 'primary', server: running({}) },
    { kind: 'stop', mode: 'immediate', phase: 'Stopping' },
  ],
  [
    'unless it is being handed over',
    { former: primary, data: 'primary', server: running({}), isHandingOver: true },
    { kind: 'rest', phase: 'Stopping' },
  ],
  ['down, it becomes a standby', { former: primary, data: 'primary' }, { kind: 'makeStandby', phase: 'Fenced' }],
  [
    'a fenced standby starts again',
    { former: follower, data: 'standby' },
    { kind: 'start', as: 'standby', phase: 'Fenced' },
  ],
  [
    'a fenced standby goes on without a source',
    { former: follower, data: 'standby', server: running({ as: 'standby' }) },
    { kind: 'rest', phase: 'Fenced' },
  ],
  [
    'one that was promoted just before is stopped',
    { former: primary, data: 'primary', server: running({ as: 'standby' }) },
    { kind: 'stop', mode: 'immediate' },
  ],
  [
    'half rewound data stays down',
    { former: follower, data: 'standby', isRejoinBegun: true },
    { kind: 'rest', phase: 'Fenced' },
  ],
  [
    'a follower looks first whether its data is a part of the history',
    { orders: follower, data: 'primary', rejoin: undefined },
    { kind: 'assess' },
  ],
  [
    'where it is not, it stops',
    { orders: follower, data: 'standby', server: running({ as: 'standby' }), rejoin: { kind: 'Diverged', diverged } },
    { kind: 'stop', phase: 'Rewinding' },
  ],
  [
    'a standby that recovers is asked what it needs to be whole',
    { orders: follower, data: 'standby', server: running({ as: 'standby', isReady: false }), rejoin: undefined },
    { kind: 'assess', phase: 'Starting' },
  ],
  [
    'one that may become whole is waited for',
    {
      orders: follower,
      data: 'standby',
      server: running({ as: 'standby', isReady: false }),
      rejoin: { kind: 'Recovering' },
    },
    { kind: 'awaitReady' },
  ],
  [
    'one that never does is stopped',
    {
      orders: follower,
      data: 'standby',
      server: running({ as: 'standby', isReady: false }),
      rejoin: { kind: 'NeverWhole' },
    },
    { kind: 'stop', phase: 'Rewinding', mode: 'immediate' },
  ],
  [
    'and looked at when it is down',
    { orders: follower, data: 'standby', rejoin: { kind: 'NeverWhole' } },
    { kind: 'assess', phase: 'Starting' },
  ],
  [
    'one that became whole is asked once more',
    { orders: follower, data: 'standby', server: running({ as: 'standby' }), rejoin: { kind: 'Recovering' } },
    { kind: 'assess', phase: 'Following' },
  ],
  [
    'a follower on its way to a timeline that nobody is on is started again',
    { orders: follower, data: 'standby', server: running({ as: 'standby' }), rejoin: { kind: 'Misled' } },
    { kind: 'stop', mode: 'fast' },
  ],
  [
    'and waits until it may be rewound',
    { orders: follower, data: 'primary', rejoin: { kind: 'Diverged', diverged } },
    { kind: 'rest', phase: 'Rewinding' },
  ],
  [
    'then it is',
    { orders: { ...follower, mayRewind: true }, data: 'primary', rejoin: { kind: 'Diverged', diverged } },
    { kind: 'rewind' },
  ],
  [
    'a rewind that was begun goes on',
    { orders: follower, data: 'standby', rejoin: { kind: 'Interrupted', diverged }, isRejoinBegun: true },
    { kind: 'rewind' },
  ],
  [
    'what can not be rewound is copied anew, once nobody counts it',
    { orders: follower, data: 'standby', rejoin: { kind: 'NeedsCopy', reason: 'lost' } },
    { kind: 'discard' },
  ],
  ['a primary asks before it starts', { orders: primary, data: 'primary' }, { kind: 'confirm' }],
  ['confirmed, it starts', { orders: primary, data: 'primary', confirmedEpoch: 1 }, { kind: 'start', as: 'primary' }],
  [
    'it waits for recovery',
    { orders: primary, data: 'primary', server: running({ isReady: false, isOpen: false }) },
    { kind: 'awaitReady' },
  ],
  [
    'an old confirmation is asked for again before it opens',
    { orders: primary, data: 'primary', server: running({ isOpen: false }) },
    { kind: 'confirm' },
  ],
  [
    'it opens',
    { orders: primary, data: 'primary', confirmedEpoch: 1, server: running({ isOpen: false }) },
    { kind: 'reconfigure', access: 'open' },
  ],
  [
    'changed configuration is reloaded',
    { orders: primary, data: 'primary', confirmedEpoch: 1, server: running({ configuration: 'c0' }) },
    { kind: 'reconfigure', access: 'open' },
  ],
  [
    'another nonce restarts it',
    { orders: { ...primary, restartNonce: '2' }, data: 'primary', server: running({}) },
    { kind: 'stop' },
  ],
  [
    'as ordered, it maintains',
    { orders: primary, data: 'primary', confirmedEpoch: 1, server: running({}) },
    { kind: 'maintain', phase: 'Primary' },
  ],
  [
    'open at an earlier epoch, it asks before it serves the new one',
    { orders: { ...primary, epoch: 2 }, data: 'primary', confirmedEpoch: 1, server: running({}) },
    { kind: 'confirm', phase: 'Primary' },
  ],
  ['a follower without data clones', { orders: follower }, { kind: 'clone', phase: 'Cloning' }],
  [
    "a follower with a primary's data makes it a standby's",
    { orders: follower, data: 'primary' },
    { kind: 'makeStandby' },
  ],
  [
    'a follower that runs as a primary stops',
    { orders: follower, data: 'primary', server: running({}) },
    { kind: 'stop' },
  ],
  [
    'a follower that was promoted by hand stops',
    { orders: follower, data: 'primary', server: running({ as: 'standby' }) },
    { kind: 'stop' },
  ],
  [
    'Postgres without its data directory is stopped',
    { orders: follower, server: running({ as: 'standby' }) },
    { kind: 'stop' },
  ],
  ['data that vanished takes the identity with it', { orders: follower, hadData: true }, { kind: 'startOver' }],
  ['so it does without orders', { hadData: true }, { kind: 'startOver' }],
  ['so it does while held', { orders: hold, hadData: true }, { kind: 'startOver' }],
  [
    'Postgres is stopped first',
    { orders: follower, hadData: true, server: running({ as: 'standby' }) },
    { kind: 'stop' },
  ],
  ['a follower starts without asking anybody', { orders: follower, data: 'standby' }, { kind: 'start', as: 'standby' }],
  [
    'a follower opens for reads',
    { orders: follower, data: 'standby', server: running({ as: 'standby', isOpen: false }) },
    { kind: 'reconfigure', access: 'open' },
  ],
  [
    'a follower as ordered maintains',
    { orders: follower, data: 'standby', server: running({ as: 'standby' }) },
    { kind: 'maintain', phase: 'Following' },
  ],
  [
    'a follower whose WAL is gone gives its data and identity up',
    { orders: follower, data: 'standby', server: running({ as: 'standby' }), isWalRemoved: true },
    { kind: 'discard' },
  ],
  [
    'a follower whose WAL is gone stays while it is counted',
    {
      orders: { ...follower, synchronous: { acknowledgements: 1, members: [follower.member] } },
      data: 'standby',
      server: running({ as: 'standby' }),
      isWalRemoved: true,
    },
    { kind: 'maintain' },
  ],
];

describe('the next step', () => {
  for (const [what, given, expected] of cases) {
    it(what, () => {
      const step = nextStep(view(given));
      assert.deepEqual({ ...step, ...expected }, step);
    });
  }
});

const anyView: fc.Arbitrary<MemberView> = fc.record({
  orders: fc.constantFrom(undefined, hold, initialise, primary, second, follower),
  former: fc.constantFrom(undefined, primary, follower),
  data: fc.constantFrom('absent' as const, 'primary' as const, 'standby' as const),
  dataTimeline: fc.constantFrom(0, 1, 2),
  hadData: fc.boolean(),
  server: fc.oneof(
    fc.constant<ServerView>({ state: 'stopped' }),
    fc
      .record({
        as: fc.constantFrom('primary' as const, 'standby' as const),
        isReady: fc.boolean(),
        isOpen: fc.boolean(),
        configuration: fc.constantFrom('c0', 'c1'),
        restartNonce: fc.constantFrom('', 'x'),
        timeline: fc.constantFrom(0, 1, 2),
      })
      .map(running),
  ),
  mayHaveClients: fc.boolean(),
  wantedConfiguration: fc.constant('c1'),
  confirmedEpoch: fc.constantFrom(0, 1, 2),
  isLeaseHeld: fc.boolean(),
  mayStartWithoutLease: fc.boolean(),
  isArmed: fc.boolean(),
  opening: fc.constantFrom('none' as const, 'waiting' as const, 'passed' as const),
  openingEpoch: fc.constantFrom(0, 1, 2),
  isReleased: fc.boolean(),
  isHandingOver: fc.boolean(),
  isRejoinBegun: fc.boolean(),
  rejoin: fc.constantFrom<MemberView['rejoin']>(
    undefined,
    { kind: 'Follow' },
    { kind: 'Unknown', reason: '' },
    { kind: 'Diverged', diverged },
    { kind: 'Interrupted', diverged },
    { kind: 'NeedsCopy', reason: '' },
    { kind: 'Misled' },
    { kind: 'Recovering' },
    { kind: 'NeverWhole' },
  ),
  isWalRemoved: fc.boolean(),
  retryInMs: fc.constantFrom(0, 100),
});

it('whatever is there, nothing becomes writable without authority and lease, nor open without its opening commit', () => {
  fc.assert(
    fc.property(anyView, (given) => {
      const step = nextStep(given);
      const isConfirmed = given.confirmedEpoch === given.orders?.epoch;
      if (step.kind === 'initialise')
        assert.ok(isConfirmed && given.data === 'absent' && given.orders?.role === 'Initialise');
      const begins = step.kind === 'promote' || (step.kind === 'start' && step.as === 'primary');
      const mayRun = given.isLeaseHeld || given.mayStartWithoutLease;
      if (begins) assert.ok(isConfirmed && mayRun && !given.isReleased && !given.isRejoinBegun);
      if (step.kind === 'promote') assert.ok(given.data === 'standby' && given.orders?.role === 'Primary');
      const opensPrimary =
        step.kind === 'reconfigure' &&
        step.access === 'open' &&
        given.server.state === 'running' &&
        given.server.as === 'primary';
      if (opensPrimary && !given.mayHaveClients) {
        assert.ok(isConfirmed && given.isLeaseHeld && given.opening === 'passed');
        assert.equal(given.openingEpoch, given.orders?.epoch);
      }
    }),
    { numRuns: 2_000 },
  );
});

it('whatever is there, the handle is let go only when Postgres is down, nothing starts before, and no primary runs without it', () => {
  fc.assert(
    fc.property(anyView, (given) => {
      const { kind } = nextStep(given);
      if (isPrimary(given.server) && !given.isArmed) assert.equal(kind, 'stop');
      if (kind === 'disarm') assert.ok(given.isArmed && given.server.state === 'stopped');
      if (given.isArmed && given.server.state === 'stopped') assert.equal(kind, 'disarm');
    }),
    { numRuns: 2_000 },
  );
});

it('whatever is there, a fenced member never writes and never streams', () => {
  fc.assert(
    fc.property(anyView, (given) => {
      const step = nextStep({ ...given, orders: undefined });
      const allowed = ['rest', 'stop', 'disarm', 'startOver', 'makeStandby', 'start', 'awaitReady'];
      assert.ok(allowed.includes(step.kind), step.kind);
      if (step.kind === 'start') assert.equal(step.as, 'standby');
    }),
    { numRuns: 2_000 },
  );
});

it('whatever is there, data is never made where some is, and Postgres is never started twice', () => {
  fc.assert(
    fc.property(anyView, (given) => {
      const { kind } = nextStep(given);
      if (kind === 'initialise' || kind === 'clone') assert.ok(given.data === 'absent' && !given.hadData);
      if (['start', 'makeStandby', 'initialise', 'clone'].includes(kind)) assert.equal(given.server.state, 'stopped');
    }),
    { numRuns: 2_000 },
  );
});

it('whatever is there, only a follower that is not counted ever gives data up', () => {
  fc.assert(
    fc.property(anyView, (given) => {
      if (nextStep(given).kind !== 'discard') return;
      assert.ok(given.orders?.role === 'Follower' && given.data !== 'absent');
      assert.ok(given.isWalRemoved || given.rejoin?.kind === 'NeedsCopy');
      assert.deepEqual(given.orders.synchronous.members, []);
    }),
    { numRuns: 2_000 },
  );
});
