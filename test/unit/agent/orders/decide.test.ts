import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decideOrders, type OrdersContext } from '#agent/orders/decide.ts';
import type { OrdersRefusalCode } from '#core/protocol/orders.ts';
import { ordersWith, other, promiseWith, self, source, third } from './orders-fixture.ts';

const context = (wish: Partial<OrdersContext> = {}): OrdersContext => ({
  member: self,
  namespace: 'test',
  shard: 'main',
  promise: promiseWith({}),
  taken: undefined,
  hasData: false,
  ...wish,
});

const promised = promiseWith({
  shardUid: 'uid',
  epoch: 3,
  grantee: `b-0/${other.incarnation}`,
  leaderTerm: 5,
  sequence: 9,
});
const newer = { epoch: 3, leaderTerm: 5, sequence: 10 };
const shard = ordersWith({}).shard;

const refused: readonly [string, OrdersRefusalCode, Parameters<typeof ordersWith>[0], Partial<OrdersContext>][] = [
  ['of another namespace', 'WrongShard', { shard: { ...shard, namespace: 'prod' } }, {}],
  ['of another shard', 'WrongShard', { shard: { ...shard, name: 'other' } }, {}],
  [
    'of a shard made anew under the same name',
    'WrongShard',
    { shard: { ...shard, uid: 'new' }, ...newer },
    { promise: promised },
  ],
  ['for another member', 'WrongMember', { member: other }, {}],
  [
    'for the member this was before its volume was lost',
    'WrongIncarnation',
    { member: { ...self, incarnation: '0000000000000001' } },
    {},
  ],
  ['below the promised epoch', 'StaleEpoch', { ...newer, epoch: 2 }, { promise: promised }],
  [
    'at the promised epoch for another grantee',
    'StaleEpoch',
    { ...newer, source: { ...source, ...third } },
    { promise: promised },
  ],
  [
    'that make this member primary at an epoch promised to another',
    'StaleEpoch',
    { ...newer, role: 'Primary' },
    { promise: promised },
  ],
  ['of an earlier leader', 'StaleSequence', { epoch: 3, leaderTerm: 4, sequence: 99 }, { promise: promised }],
  [
    'older than the last of this leader',
    'StaleSequence',
    { epoch: 3, leaderTerm: 5, sequence: 8 },
    { promise: promised },
  ],
  [
    'with the number of the last and another content',
    'StaleSequence',
    { epoch: 3, leaderTerm: 5, sequence: 9, slots: [] },
    { promise: promised, taken: ordersWith({ epoch: 3, leaderTerm: 5, sequence: 9 }) },
  ],
  ['to initialise where there is data', 'HasData', { role: 'Initialise' }, { hasData: true }],
  [
    'to initialise where another epoch is promised',
    'HasData',
    { ...newer, epoch: 4, role: 'Initialise' },
    { promise: promised },
  ],
  ['to follow nobody', 'Invalid', { source: undefined }, {}],
  ['to follow itself', 'Invalid', { source: { ...source, ...self } }, {}],
];

describe('orders are refused', () => {
  for (const [what, code, wish, given] of refused) {
    it(what, () => {
      const decision = decideOrders(ordersWith(wish), context(given));
      assert.equal(decision.kind === 'refuse' ? decision.refusal.code : 'taken', code);
    });
  }
});

describe('orders are taken', () => {
  it('first of all, with the promise that follows from them', () => {
    const decision = decideOrders(ordersWith({ epoch: 2, generation: 4, leaderTerm: 3, sequence: 7 }), context());
    assert.ok(decision.kind === 'take' && decision.isNew);
    assert.deepEqual(decision.promise, {
      ...promiseWith({}),
      shardUid: 'uid',
      epoch: 2,
      grantee: `b-0/${other.incarnation}`,
      generation: 4,
      leaderTerm: 3,
      sequence: 7,
    });
  });

  it('once more when they come again, as nothing new', () => {
    const taken = ordersWith({ ...newer });
    const promise = promiseWith({ ...promised, leaderTerm: 5, sequence: 10 });
    const decision = decideOrders(ordersWith({ ...newer }), context({ promise, taken }));
    assert.ok(decision.kind === 'take' && !decision.isNew);
  });

  it('from a new leader that counts from the beginning', () => {
    const decision = decideOrders(ordersWith({ epoch: 3, leaderTerm: 6, sequence: 0 }), context({ promise: promised }));
    assert.ok(decision.kind === 'take');
    assert.deepEqual([decision.promise.leaderTerm, decision.promise.sequence], [6, 0]);
  });

  it('to initialise at the epoch of a first member that was lost', () => {
    const decision = decideOrders(ordersWith({ role: 'Initialise', epoch: 2 }), context());
    assert.equal(decision.kind, 'take');
  });

  it('to initialise again while this member is the one that was told to', () => {
    const promise = promiseWith({
      shardUid: 'uid',
      epoch: 1,
      grantee: `a-0/${self.incarnation}`,
      leaderTerm: 1,
      sequence: 1,
    });
    const decision = decideOrders(ordersWith({ role: 'Initialise', sequence: 2 }), context({ promise, hasData: true }));
    assert.equal(decision.kind, 'take');
  });

  it('to hold, which leaves the promise of the epoch with its grantee', () => {
    const { source: _none, ...hold } = ordersWith({ ...newer, role: 'Hold' });
    const decision = decideOrders(hold, context({ promise: promised }));
    assert.ok(decision.kind === 'take');
    assert.equal(decision.promise.grantee, promised.grantee);
  });
});

it('whatever comes, neither epoch nor number ever goes back, and an epoch keeps its grantee', () => {
  const small = fc.integer({ min: 1, max: 3 });
  const anyOrders = fc
    .record({
      role: fc.constantFrom('Hold' as const, 'Primary' as const, 'Follower' as const),
      epoch: small,
      leaderTerm: small,
      sequence: small,
      source: fc.constantFrom(source, { ...source, ...third }),
    })
    .map(ordersWith);
  fc.assert(
    fc.property(fc.array(anyOrders, { maxLength: 30 }), (series) => {
      let now = context();
      const grantees = new Map<number, string>();
      for (const orders of series) {
        const decision = decideOrders(orders, now);
        if (decision.kind === 'refuse') continue;
        const { promise } = decision;
        assert.ok(promise.epoch >= now.promise.epoch);
        const [before, after] = [now.promise, promise].map((p) => p.leaderTerm * 10 + p.sequence);
        assert.ok((after ?? 0) >= (before ?? 0));
        const known = grantees.get(promise.epoch) ?? '';
        if (known !== '') assert.equal(promise.grantee, known);
        grantees.set(promise.epoch, promise.grantee);
        now = context({ promise, taken: orders });
      }
    }),
  );
});

describe('orders of a takeover', () => {
  const takeover = { takeover: true, leaderTerm: 0, sequence: 0 };
  const fenced = promiseWith({ shardUid: 'uid', epoch: 4, leaderTerm: 5, sequence: 9 });
  const former = ordersWith({ epoch: 3, leaderTerm: 5, sequence: 9, source });

  it('are ordered by their epoch alone, and leave the numbers of the leader as they are', () => {
    const orders = ordersWith({ role: 'Primary', epoch: 4, ...takeover });
    const decision = decideOrders(orders, context({ promise: fenced, taken: former }));
    assert.equal(decision.kind, 'take');
    assert.deepEqual(decision.kind === 'take' && decision.promise, {
      ...fenced,
      grantee: `a-0/${self.incarnation}`,
      generation: 1,
    });
  });

  it('come once for each epoch: others are refused, the same again are not', () => {
    const taken = ordersWith({ role: 'Primary', epoch: 4, ...takeover });
    const promise = promiseWith({ shardUid: 'uid', epoch: 4, grantee: `a-0/${self.incarnation}` });
    const again = decideOrders(taken, context({ promise, taken }));
    assert.deepEqual([again.kind, again.kind === 'take' && again.isNew], ['take', false]);
    const others = decideOrders({ ...taken, generation: 7 }, context({ promise, taken }));
    assert.equal(others.kind === 'refuse' && others.refusal.code, 'StaleEpoch');
    const leaders = ordersWith({ role: 'Primary', epoch: 4, generation: 7, leaderTerm: 0, sequence: 0 });
    assert.equal(decideOrders(leaders, context({ promise, taken })).kind, 'take', 'the leader goes on from there');
  });

  it('that ship promise the epoch to nobody, and real ones of the same epoch follow on them', () => {
    const ship = ordersWith({ epoch: 4, source, ship: true, ...takeover });
    const shipped = decideOrders(ship, context({ promise: fenced, taken: former }));
    assert.equal(shipped.kind === 'take' && shipped.promise.grantee, '');
    const real = ordersWith({ role: 'Primary', epoch: 4, ...takeover });
    assert.equal(decideOrders(real, context({ promise: fenced, taken: ship })).kind, 'take');
  });

  it('come too late for an epoch that is another’s', () => {
    const promise = { ...fenced, grantee: `c-0/${third.incarnation}` };
    const orders = ordersWith({ role: 'Primary', epoch: 4, ...takeover });
    const decision = decideOrders(orders, context({ promise, taken: former }));
    assert.equal(decision.kind === 'refuse' && decision.refusal.code, 'StaleEpoch');
  });
});
