/** What the router answers itself, what it refuses where backends are shared, and what makes a backend suspect. With the real planner. */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { createPlanner } from '#router/plan/planner.ts';
import type { Catalogue, Planner, StatementPlan } from '#router/plan/types.ts';
import { mayChangeKeeping, startsKeeping, surelyBegins } from '#router/session/keeping.ts';
import { schemasOf } from '#router/session/search-path.ts';
import {
  type BackendState,
  classOf,
  mayTaintSession,
  needsBackend,
  refuseSequenceMemory,
  surelyWritesNothing,
} from '#router/session/statement-class.ts';
import { functionsWith } from '../plan/golden/functions.ts';

const catalogue: Catalogue = {
  version: 1,
  tenantColumn: 'tenant_id',
  tables: new Map([['public.accounts', 'tenant']]),
  searchPath: ['public'],
  views: new Map(),
  functions: functionsWith(['function', 'public', 'leave_setting', '0,0,v,f,f,f']),
  volatileFunctions: new Set(['leave_setting', 'nextval', 'pg_sleep', 'pg_advisory_lock', 'set_config']),
};

let planner: Planner;
before(async () => {
  planner = await createPlanner();
});
const plans = (sql: string): StatementPlan[] => planner.plan(sql, catalogue);
const planOf = (sql: string): StatementPlan => plans(sql)[0] as StatementPlan;

describe('classes', () => {
  test('of statements', () => {
    const classes: Record<string, string> = {
      "set meridian.tenant = 'a'": 'local',
      'show meridian.served_by': 'local',
      'reset meridian.tenant': 'local',
      'discard all': 'local',
      'deallocate all': 'local',
      'unlisten *': 'local',
      begin: 'transaction',
      'rollback to savepoint s': 'transaction',
      "set timezone = 'UTC'": 'setting',
      'reset all': 'setting',
      'show timezone': 'remote',
      'select 1': 'remote',
    };
    for (const [sql, expected] of Object.entries(classes)) assert.equal(classOf(planOf(sql)), expected, sql);
  });

  test('BEGIN needs a backend only with others that do, and a SET waits for a transaction that has none', () => {
    const needed = (sql: string, state: Partial<BackendState> = {}): boolean[] => {
      const planned = plans(sql).map((plan) => ({ plan }));
      const none = { isBound: false, isLazy: false, isKept: false, statements: new Map() };
      return planned.map(({ plan }) => needsBackend(plan, planned, { ...none, ...state }));
    };
    assert.deepEqual(needed('begin'), [false]);
    assert.deepEqual(needed('begin; commit'), [false, false]);
    assert.deepEqual(needed('begin; select 1; commit'), [true, true, true]);
    assert.deepEqual(needed("begin; set timezone = 'UTC'; commit"), [true, true, true]);
    assert.deepEqual(needed("begin; set meridian.tenant = 'a'"), [false, false]);
    assert.deepEqual(needed('commit', { isBound: true, isLazy: false }), [true]);
    assert.deepEqual(needed("set timezone = 'UTC'", { isBound: false, isLazy: true }), [false]);
    for (const sql of ['reset timezone', 'set timezone to default', 'set local timezone to default', 'reset all'])
      assert.deepEqual(needed(sql, { isBound: false, isLazy: true }), [true], sql);
    assert.deepEqual(needed("set timezone = 'UTC'"), [true]);
  });

  test('what is about things in Postgres’ session goes to the backend that is kept, and is answered where none is', () => {
    const planned = plans(
      'unlisten c; deallocate p; deallocate all; execute p; discard temp; discard all; deallocate q',
    );
    const needed = (isKept: boolean): boolean[] =>
      planned.map((plan) =>
        needsBackend(plan, [], { isBound: isKept, isKept, isLazy: false, statements: new Map([['q', 1]]) }),
      );
    assert.deepEqual(
      needed(false),
      planned.map(() => false),
    );
    assert.deepEqual(needed(true), [true, true, true, true, true, false, false]);
  });

  test('what drivers’ pools say to a connection that comes back to them goes as one text, and costs no question', () => {
    const none = { isBound: false, isLazy: false, isKept: false, statements: new Map() };
    for (const sql of [
      'select pg_advisory_unlock_all(); close all; unlisten *; reset all',
      'reset all; close all; unlisten *; select pg_advisory_unlock_all(); discard sequences; discard temp',
    ]) {
      const planned = plans(sql).map((plan) => ({ plan }));
      assert.ok(
        planned.every(({ plan }) => needsBackend(plan, planned, none)),
        sql,
      );
      for (const { plan } of planned) {
        assert.ok(!mayChangeKeeping(plan, catalogue.volatileFunctions, false), plan.text);
        assert.ok(!mayTaintSession(plan, catalogue.volatileFunctions), plan.text);
      }
    }
    const mixed = plans('select 1; deallocate all; discard all; unlisten c; select 2').map((plan) => ({ plan }));
    assert.deepEqual(
      mixed.map(({ plan }) => needsBackend(plan, mixed, none)),
      [true, false, false, false, true],
    );
  });
});

test('what lives in Postgres’ session makes it keep its backend', () => {
  for (const sql of [
    'listen c',
    'prepare p as select 1',
    'create temp table t (a int)',
    'create table pg_temp.t (a int)',
    'create temporary table t as select 1',
    'select 1 into temp t',
    'declare c cursor with hold for select 1',
    'select pg_advisory_lock(1)',
    'select 1 where pg_try_advisory_lock(2)',
  ])
    assert.ok(startsKeeping(planOf(sql)), sql);
  for (const sql of [
    'select 1',
    'create temp table t (a int) on commit drop',
    'declare c cursor for select 1',
    'copy accounts to stdout',
    'select pg_advisory_xact_lock(1)',
    'notify c',
    'unlisten c',
  ])
    assert.ok(!startsKeeping(planOf(sql)), sql);
  // What may end it, or begin it unseen: the backend is asked.
  for (const sql of [
    'unlisten *',
    'close all',
    'select pg_advisory_unlock(1)',
    'do $$ begin end $$',
    'drop table t',
    'select leave_setting()',
  ])
    assert.ok(mayChangeKeeping(planOf(sql), catalogue.volatileFunctions, true), sql);
  for (const sql of ['select 1', 'insert into accounts values (1)', 'begin'])
    assert.ok(!mayChangeKeeping(planOf(sql), catalogue.volatileFunctions, true), sql);
});

test('a BEGIN that can not fail is told from one that a follower may refuse', () => {
  for (const sql of [
    'begin',
    'BEGIN;',
    'start transaction read only',
    'begin isolation level repeatable read, read only',
    'begin transaction not deferrable',
  ])
    assert.ok(surelyBegins(sql, false), sql);
  for (const sql of ['begin isolation level serializable', 'begin read write']) {
    assert.ok(surelyBegins(sql, true), sql);
    assert.ok(!surelyBegins(sql, false), sql);
  }
  for (const sql of ['/* x */ begin', 'begin; select 1', 'set local work_mem = 1', ''])
    assert.ok(!surelyBegins(sql, true), sql);
});

test('the last number of a sequence is asked for where something before it may have made one', () => {
  const ask =
    (sql: string, hasDrawn = false) =>
    () =>
      refuseSequenceMemory(plans(sql), hasDrawn);
  for (const sql of [
    'select lastval()',
    "select currval('s')",
    "insert into accounts (id) values (pg_catalog.currval('s'))",
    'begin; select lastval()',
    'select 1; select lastval()',
    'select lastval(); select lastval()',
  ])
    assert.throws(ask(sql), { sqlstate: '0A000' }, sql);
  ask('select lastval()', true)();
  ask("insert into accounts (tenant_id) values ('a'); select lastval()")();
  ask("begin; select nextval('s'); select lastval()")();
  ask("select nextval('s'), currval('s')")();
  ask('select 1')();
});

test('what may leave something behind makes its backend suspect, and plain work does not', () => {
  for (const sql of [
    'do $$ begin end $$',
    'call p()',
    'select leave_setting()',
    'update accounts set id = 1 where leave_setting() is null',
  ])
    assert.ok(mayTaintSession(planOf(sql), catalogue.volatileFunctions), sql);
  for (const sql of [
    'select 1',
    'select count(*) from accounts',
    "insert into accounts values ('a')",
    "select nextval('s')",
    'select pg_sleep(1)',
    'begin',
  ])
    assert.ok(!mayTaintSession(planOf(sql), catalogue.volatileFunctions), sql);
});

test('what surely writes nothing may be cancelled outside a transaction, and nothing else', () => {
  const known = new Set(['nextval', 'set_config', 'leave_setting']);
  for (const sql of ['select 1', 'select pg_sleep(1)', 'select random() from accounts', 'show timezone'])
    assert.ok(surelyWritesNothing(planOf(sql), known), sql);
  for (const sql of [
    "select nextval('s')",
    'select leave_setting()',
    'select * from accounts for update',
    'select pg_sleep(1) from accounts for share',
    'with gone as (delete from accounts returning 1) select pg_sleep(1) from gone',
    'select random() into t',
    'update accounts set id = 1',
    'commit',
    'call p()',
  ])
    assert.ok(!surelyWritesNothing(planOf(sql), known), sql);
});

describe('search paths', () => {
  test('are read from the statement that set them, or not at all', () => {
    const cases: [string, string[]][] = [
      ['SET search_path = public, "My Schema", other', ['public', 'My Schema', 'other']],
      ["set local search_path to 'a', B;", ['a', 'b']],
      ["SELECT pg_catalog.set_config('search_path', 'x, \"Y\"', false)", ['x', 'Y']],
      // The schema of the role's own name goes before others, where there is one.
      ['SET search_path TO "$user", public', ['app', 'public']],
      [`SELECT pg_catalog.set_config('search_path', '"$user", "it''s"', false)`, ['app', "it's"]],
      ['SET search_path FROM CURRENT', []],
      ['SET search_path = a.b', []],
    ];
    for (const [sql, expected] of cases) assert.deepEqual(schemasOf(sql, 'app'), expected, sql);
  });
});
