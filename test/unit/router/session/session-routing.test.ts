/** The names of a statement are resolved by the search path that Postgres will have when it runs; where that isn't sure, by none. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { HorizonClock } from '#router/authority/horizon-clock.ts';
import { Positions } from '#router/consistency/positions.ts';
import type { RouterContext } from '#router/context.ts';
import { PlanCache } from '#router/exec/plan-cache.ts';
import { createPlanner } from '#router/plan/planner.ts';
import type { Catalogue } from '#router/plan/types.ts';
import { SessionRouting } from '#router/session/session-routing.ts';
import { SessionSettings } from '#router/session/settings.ts';
import { ClientStatement, SharedStatements } from '#router/session/statements.ts';
import { ClientTransaction } from '#router/session/transaction.ts';
import { transactionStatus as tx } from '#router/wire/codes.ts';
import { acmeOnly as login, map } from '../exec/fixture.ts';
import { functionsWith } from '../plan/golden/functions.ts';

const planner = await createPlanner();

/** `rates` is a reference table in one schema, and tenant-owned in another. */
const tables: Catalogue['tables'] = new Map([
  ['public.rates', 'reference'],
  ['own.rates', 'tenant'],
]);

function made(): { routing: SessionRouting; settings: SessionSettings; transaction: ClientTransaction } {
  const settings = new SessionSettings(new Map(), { tenant: 'acme' });
  const transaction = new ClientTransaction(settings);
  const catalogues = new Map<string, Catalogue>();
  const directory = {
    current: () => login,
    catalogue: (searchPath: readonly string[]): Catalogue => {
      const key = searchPath.join();
      const found = catalogues.get(key) ?? {
        version: 1,
        tenantColumn: 'tenant_id',
        tables,
        searchPath,
        views: new Map(),
        functions: functionsWith(),
        volatileFunctions: new Set(['set_config']),
      };
      catalogues.set(key, found);
      return found;
    },
  };
  const authority = { positions: new Positions({ clock: new HorizonClock(), onDoubt: () => {}, onMiss: () => {} }) };
  const context = {
    authority,
    directory,
    plans: new PlanCache(planner),
    map: () => map,
    log: pino({ level: 'silent' }),
  };
  const routing = new SessionRouting(context as unknown as RouterContext, login, {
    settings,
    transaction,
    applicationName: '',
  });
  return { routing, settings, transaction };
}

const touched = (routing: SessionRouting, sql: string): string | undefined => routing.plan(sql).at(-1)?.plan.touches;
const reading = 'select * from rates';

describe('search_path', () => {
  test('that changes within a text leaves the names behind it unknown', () => {
    const { routing } = made();
    assert.equal(touched(routing, reading), 'reference');
    for (const change of [
      'set search_path = own',
      'set local search_path = own',
      "set schema 'own'",
      'reset search_path',
      'reset all',
      "select set_config('search_path', 'own', false)",
      "do $$ begin execute 'set search_path = own'; end $$",
    ])
      assert.equal(touched(routing, `begin; ${change}; ${reading}`), 'unknown', change);
    assert.equal(
      touched(routing, `set timezone = 'UTC'; select set_config('app.x', '1', true); ${reading}`),
      'reference',
    );
    assert.equal(touched(routing, `begin; ${reading}; commit; ${reading}`), 'reference');
  });

  test('of a transaction holds in it and ends with it', () => {
    const { routing, settings } = made();
    const run = (sql: string): void => {
      for (const { plan } of routing.plan(sql)) settings.apply(plan);
    };
    run('set local search_path = own');
    assert.equal(touched(routing, reading), 'tenant');
    assert.equal(touched(routing, `rollback; ${reading}`), 'unknown');
    settings.savepoint('s');
    run('set local search_path = public');
    assert.equal(touched(routing, reading), 'reference');
    settings.rollbackTo('s');
    assert.equal(touched(routing, reading), 'tenant');
    run('set search_path = public');
    assert.equal(touched(routing, reading), 'reference');
    settings.rollback();
    run('set local search_path = own');
    settings.commit();
    assert.equal(touched(routing, reading), 'reference');
  });

  test('that a function or a DO block changes in a transaction is not known until its end', () => {
    for (const change of ["select set_config('search_path', 'own', true)", 'do $$ begin end $$']) {
      const { routing, settings, transaction } = made();
      routing.routeOf(routing.plan(change));
      assert.equal(touched(routing, reading), 'reference', 'outside a transaction the backend is discarded');
      transaction.status = tx.open;
      routing.routeOf(routing.plan(change));
      assert.equal(touched(routing, reading), 'unknown', change);
      settings.rollback();
      assert.equal(touched(routing, reading), 'reference');
    }
  });

  test('that changes in a pipeline leaves what is read behind it unknown until the Sync is answered', () => {
    const { routing, settings } = made();
    const scope = { planner: routing, settings, shared: new SharedStatements() };
    const parsed = (sql: string): ClientStatement => {
      const body = Buffer.concat([Buffer.from(sql), Buffer.alloc(3)]);
      return new ClientStatement({ name: 's', sql, body }, scope);
    };
    const before = parsed(reading);
    const set = parsed('set search_path = own');
    const frame = Buffer.alloc(0);
    routing.routeOfBatch([{ kind: 'execute', frame, portal: { statement: set } }], true);
    assert.equal(before.planned?.plan.touches, 'unknown');
    assert.equal(parsed(reading).planned?.plan.touches, 'unknown');
    if (set.planned !== undefined) settings.apply(set.planned.plan);
    routing.segmentEnded();
    assert.equal(before.planned?.plan.touches, 'tenant', 'read anew, as Postgres does');
  });
});

test('the last number of a sequence is that of the own transaction, or refused', () => {
  const { routing, transaction } = made();
  const begin = (): void => transaction.begin('begin', false);
  const route = (sql: string) => routing.routeOf(routing.plan(sql));
  const refusal = { sqlstate: '0A000' };
  begin();
  assert.throws(() => route('select lastval()'), refusal);
  route("select nextval('s')");
  route('select lastval()');
  // Lost, and begun anew without a word to a backend.
  transaction.fail(false);
  begin();
  assert.throws(() => route('select lastval()'), refusal);
  route("select nextval('s')");
  transaction.status = tx.idle;
  transaction.ended(false);
  assert.throws(() => route('select lastval()'), refusal);
  // BEGIN goes to the backend with what is behind it.
  assert.throws(() => route('begin; select lastval()'), refusal);
  route("begin; select nextval('s')");
  transaction.status = tx.open;
  route('select lastval()');
});
