/** What tenants and roles are held to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RouterError } from '#router/errors.ts';
import { Limits } from '#router/limits/limits.ts';
import { withStatementTimeout } from '#router/limits/statement-timeout.ts';
import type { ClusterMap, Limits as LimitSet } from '#router/map/map.ts';
import type { Backend } from '#router/pool/backend.ts';
import type { Pool, Taker } from '#router/pool/pool.ts';

interface World {
  tenant: LimitSet;
  role: LimitSet;
  nowMs: number;
}

function limitsOf(world: World, waitMs = 1_000, workers = 1): Limits {
  return new Limits({
    map: () =>
      ({
        keyspace: { roleLimits: { app: world.role } },
        tenants: new Map([['acme', { key: 'acme', limits: world.tenant }]]),
      }) as unknown as ClusterMap,
    waitMs,
    workers,
    now: () => world.nowMs,
    onRefused: () => undefined,
  });
}

const world = (tenant: LimitSet, role: LimitSet = {}): World => ({ tenant, role, nowMs: 0 });
const refusedWith = (sqlstate: string) => (error: unknown) =>
  error instanceof RouterError && error.sqlstate === sqlstate;

/** A pool that gives at once, and remembers. */
class FakePool {
  readonly given: Backend[] = [];
  take(taker: Taker): () => void {
    const backend = {} as Backend;
    this.given.push(backend);
    taker.give(backend);
    return () => undefined;
  }
}
const asPool = (pool: FakePool): Pool => pool as unknown as Pool;

test('connections of a role and of a tenant are counted for as long as they are chosen', () => {
  const limits = limitsOf(world({ connections: 2 }, { connections: 3 }));
  const [one, two, three] = [limits.join('app'), limits.join('app'), limits.join('app')];
  assert.throws(() => limits.join('app'), refusedWith('53300'));
  one.reserve('acme');
  one.reserve('acme');
  two.reserve('acme');
  assert.throws(() => three.reserve('acme'), refusedWith('53300'));
  two.settle(undefined, 'bolt');
  three.reserve('acme');
  three.leave();
  three.leave();
  limits.join('app').reserve('acme');
  assert.deepEqual(
    [...limits.tenants()]
      .map(({ tenant, connections }) => [tenant, connections])
      .toSorted(([one], [other]) => (String(one) < String(other) ? -1 : 1)),
    [
      ['acme', 2],
      ['bolt', 1],
    ],
  );
});

test('a rate lets a second’s worth go at once, then as much as comes with time, and is lowered at run time', () => {
  const state = world({ statementsPerSecond: 10 });
  const limits = limitsOf(state);
  limits.spend('app', 'acme', 10);
  assert.throws(() => limits.spend('app', 'acme', 1), refusedWith('53400'));
  limits.spend('app', 'bolt', 1_000);
  state.nowMs = 100;
  limits.spend('app', 'acme', 1);
  assert.throws(() => limits.spend('app', 'acme', 1), refusedWith('53400'));
  state.nowMs = 60_000;
  state.tenant = { statementsPerSecond: 1 };
  limits.spend('app', 'acme', 1);
  assert.throws(() => limits.spend('app', 'acme', 1), refusedWith('53400'));
});

test('a text of many statements is owed for', () => {
  const state = world({ statementsPerSecond: 10 });
  const limits = limitsOf(state);
  limits.spend('app', 'acme', 30);
  state.nowMs = 1_900;
  assert.throws(() => limits.spend('app', 'acme', 1), refusedWith('53400'));
  state.nowMs = 2_100;
  limits.spend('app', 'acme', 1);
});

test('what is in flight is bounded, and the next goes when a connection is given back', () => {
  const limits = limitsOf(world({ transactionsInFlight: 2 }));
  const pool = new FakePool();
  const taker = { give: () => undefined, fail: () => assert.fail('refused') };
  for (let index = 0; index < 4; index++) limits.take('app', 'acme', asPool(pool), taker, undefined);
  assert.equal(pool.given.length, 2);
  limits.take('app', 'bolt', asPool(pool), taker, undefined);
  assert.equal(pool.given.length, 3);
  pool.given[0]?.onReturn?.();
  assert.equal(pool.given.length, 4);
  pool.given[1]?.onReturn?.();
  pool.given[3]?.onReturn?.();
  pool.given[4]?.onReturn?.();
  assert.deepEqual([...limits.tenants()], []);
});

test('one that stops waiting takes nobody’s turn, and one that waits too long is told', async () => {
  const limits = limitsOf(world({ transactionsInFlight: 1 }), 20);
  const pool = new FakePool();
  const failed: Error[] = [];
  const taker = { give: () => undefined, fail: (error: Error) => void failed.push(error) };
  limits.take('app', 'acme', asPool(pool), taker, undefined);
  limits.take('app', 'acme', asPool(pool), taker, undefined)();
  limits.take('app', 'acme', asPool(pool), taker, undefined);
  for (const deadline = performance.now() + 60_000; failed.length === 0 && performance.now() < deadline; )
    await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(failed.length, 1);
  assert.ok(refusedWith('53300')(failed[0]));
  pool.given[0]?.onReturn?.();
  assert.equal(pool.given.length, 1);
  limits.take('app', 'acme', asPool(pool), taker, undefined);
  assert.equal(pool.given.length, 2);
});

test('a role’s turns go round its tenants, and a higher limit lets go at once who waits', () => {
  const state = world({}, { transactionsInFlight: 1 });
  const limits = limitsOf(state);
  const pool = new FakePool();
  const order: string[] = [];
  const take = (tenant: string): void =>
    void limits.take(
      'app',
      tenant,
      asPool(pool),
      { give: () => void order.push(tenant), fail: assert.fail },
      undefined,
    );
  for (const tenant of ['many', 'many', 'many', 'one']) take(tenant);
  pool.given[0]?.onReturn?.();
  pool.given[1]?.onReturn?.();
  assert.deepEqual(order, ['many', 'many', 'one']);
  state.role = {};
  limits.changed();
  assert.deepEqual(order, ['many', 'many', 'one', 'many']);
});

test('the limit of a statement’s time is said behind the session’s settings, and is the lesser of the two', () => {
  const state = world({ statementTimeoutMs: 500 }, { statementTimeoutMs: 2_000 });
  const limits = limitsOf(state);
  assert.equal(limits.statementTimeoutMs('app', 'acme'), 500);
  assert.equal(limits.statementTimeoutMs('app', 'bolt'), 2_000);
  assert.equal(limits.statementTimeoutMs('other', 'bolt'), undefined);
  assert.equal(withStatementTimeout('SET a = b', undefined), 'SET a = b');
  assert.match(withStatementTimeout('SET a = b', 500), /^SET a = b\n;SELECT .*'500'/);
  assert.ok(limits.needsOwnConnection('app', 'acme') && !limits.needsOwnConnection('other', 'bolt'));
});

test('each of several workers holds to its share, rounded up', () => {
  const limits = limitsOf(world({ connections: 3 }, { connections: 1 }), 1_000, 2);
  limits.join('app');
  assert.throws(() => limits.join('app'), refusedWith('53300'));
  const others = [limits.join('other'), limits.join('other'), limits.join('other')];
  others[0]?.reserve('acme');
  others[1]?.reserve('acme');
  assert.throws(() => others[2]?.reserve('acme'), refusedWith('53300'));
});
