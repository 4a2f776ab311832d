/**
 * The keyspace controller's work on shards, against real members: over TLS by certificate, in steps over two shards, again after
 * whatever broke it off.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import type { SchemaWish, SetUpShards, ShardTarget } from '#operator/controllers/keyspace/actions.ts';
import { ShardLedger } from '#operator/controllers/keyspace/ledger.ts';
import { setUpShards } from '#operator/controllers/keyspace/set-up-shards.ts';
import { openShardSession } from '#operator/controllers/keyspace/shard-session.ts';
import { generateParameters, generatePassword } from '#operator/passwords/generate.ts';
import { makeVerifier } from '#operator/passwords/verifier.ts';
import { type ClientCredentials, connectMember, WrongPeerError, withMember } from '#operator/postgres/connect.ts';
import { KeptConnections } from '#operator/postgres/kept-connections.ts';
import { KeyspaceFixture, type ShardFixture } from './member-fixture.ts';

let keyspace: KeyspaceFixture;
let shards: readonly ShardFixture[];
let targets: readonly ShardTarget[];
let credentials: ClientCredentials;
let ledger: ShardLedger;

before(async () => {
  keyspace = await KeyspaceFixture.start('shop');
  shards = await Promise.all(
    ['a', 'b'].map((name) => keyspace.shard({ name, members: [{ name: `${name}-eu-0`, region: 'eu' }] })),
  );
  await Promise.all(shards.map((shard) => shard.bringUp()));
  const pair = await keyspace.issue(keyspace.identity('operator'));
  credentials = { ca: keyspace.ca.bundle, certificate: pair.certificate, privateKey: pair.privateKey };
  targets = await Promise.all(
    shards.map(async (shard, ordinal): Promise<ShardTarget> => {
      const { name: member, incarnation } = await shard.primary.identity();
      const address = await shard.primary.address();
      return {
        name: shard.name,
        uid: shard.uid,
        ordinal,
        epoch: 1,
        incarnation,
        recorded: 0,
        member: { namespace: keyspace.namespace, keyspace: keyspace.keyspace, member, address },
      };
    }),
  );
});

beforeEach(() => {
  ledger = new ShardLedger();
});

after(() => keyspace.stop());

const firstMigrations: SchemaWish['migrations'] = [
  { name: '0001-notes', sql: 'create table notes (tenant_id text, id bigint, body text, primary key (tenant_id, id))' },
  { name: '0002-body', sql: 'alter table notes alter column body set default $$-$$' },
];

const wish = (over: Partial<SchemaWish> = {}): SchemaWish => ({
  database: 'shop',
  tenantKey: { column: 'tenant_id', type: 'text' },
  migrations: firstMigrations,
  hasAllMigrations: true,
  referenceTables: [],
  roles: [{ name: 'shop_app', secret: 'shop-role-shop-app', anyTenant: true }],
  ...over,
});

let verifier: string;
before(async () => {
  verifier = await makeVerifier(generatePassword(), generateParameters());
});

function setUp(over: Partial<SchemaWish> = {}, which: readonly ShardTarget[] = targets) {
  const action: SetUpShards = { kind: 'setUpShards', wish: wish(over), shards: which, away: [] };
  const accepted = new Map([['shop_app', { verifier }]]);
  return setUpShards(action, {
    ledger,
    accepted,
    openSession: (target) => openShardSession(target, action.wish, credentials, accepted),
    nowMs: Date.now,
    signal: new AbortController().signal,
  });
}

async function ask<Row extends object>(target: ShardTarget | undefined, query: string): Promise<Row[]> {
  assert.ok(target !== undefined);
  return withMember(target.member, 'shop', credentials, async (client) => (await client.query<Row>(query)).rows);
}

test('both shards get database, schema, migrations and roles with the very same verifier; again changes nothing', async () => {
  const outcome = await setUp();
  assert.deepEqual(outcome.shards, [
    { name: 'a', applied: 2 },
    { name: 'b', applied: 2 },
  ]);
  const verifiers = await Promise.all(
    targets.map((target) => ask(target, 'select name, verifier from meridian.login_verifier')),
  );
  assert.deepEqual(verifiers[0], [{ name: 'shop_app', verifier }]);
  assert.deepEqual(verifiers[1], verifiers[0]);
  ledger = new ShardLedger();
  assert.deepEqual((await setUp()).shards, outcome.shards);
});

test('each shard draws from a sequence range of its own', async () => {
  const sql =
    'create table numbered (tenant_id text, id bigint generated always as identity, primary key (tenant_id, id))';
  await setUp({ migrations: [...firstMigrations, { name: '0003-numbered', sql }] });
  const starts = await Promise.all(
    targets.map((target) =>
      ask<{ id: string }>(target, "select nextval(pg_get_serial_sequence('numbered', 'id')) as id"),
    ),
  );
  const [a, b] = starts.map(([row]) => BigInt(row?.id ?? 0));
  assert.ok(a !== undefined && b !== undefined && a < 2n ** 40n && b > 2n ** 40n);
});

test('a migration that only one shard refuses stops both, and goes on when its rows are put right', async () => {
  const migrations = [
    ...firstMigrations,
    {
      name: '0003-numbered',
      sql: 'create table numbered (tenant_id text, id bigint generated always as identity, primary key (tenant_id, id))',
    },
    { name: '0004-check', sql: "alter table notes add constraint no_x check (body <> 'x')" },
    { name: '0005-later', sql: 'create table later (tenant_id text primary key)' },
  ];
  const [a, b] = targets;
  // The superuser's own insert passes the check on ownership only where the tenant is owned: this row comes from before.
  await ask(b, "set session_replication_role = replica; insert into notes values ('acme', 1, 'x')");
  const outcome = await setUp({ migrations });
  assert.deepEqual(
    outcome.shards.map(({ applied }) => applied),
    [4, 3],
  );
  assert.equal(outcome.shards[1]?.failedMigration?.name, '0004-check');
  assert.match(outcome.shards[1]?.failedMigration?.message ?? '', /no_x.*23514/);
  for (const target of [a, b])
    assert.deepEqual(await ask(target, "select to_regclass('later') as later"), [{ later: null }]);

  await ask(b, "set session_replication_role = replica; delete from notes where body = 'x'");
  assert.deepEqual(
    (await setUp({ migrations })).shards.map(({ applied }) => applied),
    [5, 5],
  );

  const changed = migrations.map((each) => (each.name === '0005-later' ? { ...each, sql: `${each.sql};` } : each));
  const refused = await setUp({ migrations: changed });
  assert.deepEqual(
    refused.shards.map(({ failedMigration }) => failedMigration?.reason),
    ['Changed', 'Changed'],
  );
});

test('a migration whose connection dies is done again, once', async () => {
  const declared = await ask<{ name: string }>(
    targets[0],
    'select name from meridian.migration_text order by position',
  );
  assert.ok(declared.length >= 2);
  const [target] = targets;
  assert.ok(target !== undefined);
  const database = 'broken_off';
  const slow = { name: '0001-slow', sql: 'create table slow (tenant_id text primary key); select pg_sleep(5)' };
  const first = setUp({ database, migrations: [slow] }, [target]);
  await untilRuns(target, database, '%pg_sleep%');
  await ask(target, `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${database}'`);
  const [broken] = (await first).shards;
  assert.equal(broken?.problem?.step, 'connect');
  assert.equal(broken?.applied, 0);
  const [mended] = (await setUp({ database, migrations: [slow] }, [target])).shards;
  assert.deepEqual(mended, { name: 'a', applied: 1 });
});

async function untilRuns(target: ShardTarget, database: string, query: string): Promise<void> {
  for (let attempt = 0; attempt < 1_000; attempt++) {
    const running = await ask(
      target,
      `select pid from pg_stat_activity where datname = '${database}' and state = 'active' and query like '${query}'`,
    );
    if (running.length > 0) return;
    await sleep(50);
  }
  assert.fail(`${query} never ran`);
}

test('a role that is no longer declared goes from every shard', async () => {
  const declared = await declaredMigrations();
  await setUp({ migrations: declared, roles: [] });
  for (const target of targets)
    assert.deepEqual(await ask(target, "select rolname from pg_roles where rolname = 'shop_app'"), []);
});

/** What is applied, as it was declared: for tests that are about something else. */
async function declaredMigrations(): Promise<SchemaWish['migrations']> {
  return [
    ...firstMigrations,
    {
      name: '0003-numbered',
      sql: 'create table numbered (tenant_id text, id bigint generated always as identity, primary key (tenant_id, id))',
    },
    { name: '0004-check', sql: "alter table notes add constraint no_x check (body <> 'x')" },
    { name: '0005-later', sql: 'create table later (tenant_id text primary key)' },
  ];
}

test('a member with another name than expected is not spoken to', async () => {
  const [a, b] = targets;
  assert.ok(a !== undefined && b !== undefined);
  await assert.rejects(connectMember({ ...a.member, address: b.member.address }, 'shop', credentials), WrongPeerError);
  await assert.rejects(connectMember({ ...a.member, namespace: 'other' }, 'shop', credentials), WrongPeerError);
});

test('nobody but the operator gets in as the operator', async () => {
  const [a] = targets;
  assert.ok(a !== undefined);
  const router = await keyspace.issue(keyspace.identity('router'));
  const asRouter = { ca: credentials.ca, certificate: router.certificate, privateKey: router.privateKey };
  await assert.rejects(connectMember(a.member, 'shop', asRouter), { code: '28000' });
});

test('a server that never answers costs no more than the bound', async () => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await new Promise((resolve) => silent.once('listening', resolve));
  const bound = silent.address();
  assert.ok(bound !== null && typeof bound === 'object');
  const [a] = targets;
  assert.ok(a !== undefined);
  const startedAt = performance.now();
  const target = { ...a.member, address: '127.0.0.1', port: bound.port };
  await assert.rejects(connectMember(target, 'shop', credentials, { connectTimeoutMs: 300 }), /timeout/i);
  assert.ok(performance.now() - startedAt < 20_000);
  silent.close();
});

test('kept connections are used again after success, and never after a failure', async () => {
  const [a] = targets;
  assert.ok(a !== undefined);
  const kept = new KeptConnections({ idleMs: 60_000 });
  const pidOf = async (client: Client): Promise<number> =>
    (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid ?? 0;
  const use = <T>(work: (client: Client) => Promise<T>) => kept.use(a.member, 'shop', credentials, work);
  const first = await use(pidOf);
  assert.equal(await use(pidOf), first);
  await assert.rejects(
    use((client) => client.query('select 1/0')),
    { code: '22012' },
  );
  const second = await use(pidOf);
  assert.notEqual(second, first);
  // One that the server has ended meanwhile isn't handed out.
  await ask(a, `select pg_terminate_backend(${second})`);
  // Its farewell has to arrive here, too.
  await sleep(1_500);
  assert.notEqual(await use(pidOf), second);
  await kept.close();
});
