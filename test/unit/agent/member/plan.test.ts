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
  ...wish,
});
const view = (wish: Partial<MemberView>): MemberView => ({
  orders: undefined,
  data: 'absent',
  hadData: false,
  server: { state: 'stopped' },
  wantedConfiguration: 'c1',
  confirmedEpoch: 0,
  isWalRemoved: false,
  retryInMs: 0,
  ...wish,
});
const initialise = ordersWith({ role: 'Initialise' });
const primary = ordersWith({ role: 'Primary' });
const follower = ordersWith({ role: 'Follower' });
const hold = ordersWith({ role: 'Hold' });

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
    'a standby is not promoted by these orders',
    { orders: primary, data: 'standby', confirmedEpoch: 1 },
    { kind: 'rest', phase: 'Failed' },
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
  orders: fc.constantFrom(undefined, hold, initialise, primary, follower),
  data: fc.constantFrom('absent' as const, 'primary' as const, 'standby' as const),
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
      })
      .map(running),
  ),
  wantedConfiguration: fc.constant('c1'),
  confirmedEpoch: fc.constantFrom(0, 1, 2),
  isWalRemoved: fc.boolean(),
  retryInMs: fc.constantFrom(0, 100),
});

it('whatever is there, nothing becomes writable unless the record names this member at this epoch', () => {
  fc.assert(
    fc.property(anyView, (given) => {
      const step = nextStep(given);
      const isConfirmed = given.confirmedEpoch === given.orders?.epoch;
      const wasOpen = given.server.state === 'running' && given.server.isOpen;
      if (step.kind === 'initialise')
        assert.ok(isConfirmed && given.data === 'absent' && given.orders?.role === 'Initialise');
      if (step.kind === 'start' && step.as === 'primary') assert.ok(isConfirmed);
      const opensPrimary =
        step.kind === 'reconfigure' && given.server.state === 'running' && given.server.as === 'primary';
      if (opensPrimary && !wasOpen) assert.ok(isConfirmed);
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
      assert.ok(given.isWalRemoved && given.orders?.role === 'Follower' && given.data === 'standby');
      assert.deepEqual(given.orders.synchronous.members, []);
    }),
    { numRuns: 2_000 },
  );
});
