/**
 * Migrations and what they leave behind: applied once, in order, protected from the first moment, refused if their tables could never
 * be kept apart or move (design, section 5; traps M9, M11, M12, M15).
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Client } from 'pg';
import { type Migration, type MigrationFailure, runMigrations } from '#operator/postgres/migrations.ts';
import { installOwnership, OwnershipSettingsError } from '#operator/postgres/ownership/install.ts';
import { checkMovable, protectTables } from '#operator/postgres/ownership/protect.ts';
import { sequenceRange } from '#operator/postgres/ownership/sequence-range.ts';
import { KeyspaceDatabase, PostgresFixture } from './postgres-fixture.ts';

let postgres: PostgresFixture;
/** With one table, for migrations that leave nothing behind. */
let shared: KeyspaceDatabase;

before(async () => {
  postgres = await PostgresFixture.start();
  shared = await database([good]);
});

after(() => postgres.stop());

let made = 0;
const database = (
  migrations: readonly Migration[] = [],
  more: { shardOrdinal?: number; referenceTables?: string[] } = {},
) => KeyspaceDatabase.make(postgres, { database: `db_${++made}`, migrations, ...more });

const good: Migration = {
  name: '001 notes',
  sql: 'create table notes (tenant_id text not null, id bigint generated always as identity, body text, primary key (tenant_id, id))',
};

const tables = async (client: Client): Promise<unknown[]> =>
  (await client.query(`select tablename from pg_tables where schemaname = 'public' order by 1`)).rows.map(
    (row: { tablename: string }) => row.tablename,
  );

test('followers may connect to the database, for the slots that they copy; PUBLIC may not', async () => {
  const { rows } = await shared.operator.query(
    `select has_database_privilege('meridian_replication', current_database(), 'connect') as replication,
            has_database_privilege('meridian_replication', current_database(), 'temporary') as temporary`,
  );
  assert.deepEqual(rows, [{ replication: true, temporary: false }]);
});

/** One table (or so) each, with the reasons for which it is refused. */
const refused: readonly [sql: string, ...reasons: string[]][] = [
  ['create table t (id bigint primary key)', 'NoTenantColumn'],
  ['create table t (tenant_id uuid not null, id bigint, primary key (tenant_id, id))', 'TenantColumnType'],
  ['create table t (tenant_id varchar(20) not null, id bigint, primary key (tenant_id, id))', 'TenantColumnType'],
  ['create table t (tenant_id text, id bigint primary key)', 'TenantColumnNullable', 'PrimaryKeyWithoutTenant'],
  ['create table t (tenant_id text not null, id bigint)', 'NoPrimaryKey'],
  [
    'create table t (tenant_id text not null, id bigint, primary key (tenant_id, id) deferrable)',
    'DeferrablePrimaryKey',
  ],
  [
    'create table t (tenant_id text not null, id bigint, mail text unique, primary key (tenant_id, id))',
    'UniqueWithoutTenant',
  ],
  [
    'create table t (tenant_id text not null, id bigint, mail text, primary key (tenant_id, id)); create unique index on t (lower(mail)) include (tenant_id)',
    'UniqueWithoutTenant',
  ],
  [
    `create table t (tenant_id text not null, id bigint, span int4range, primary key (tenant_id, id), exclude using gist (span with &&))`,
    'ExclusionWithoutTenant',
  ],
  ['create unlogged table t (tenant_id text not null, id bigint, primary key (tenant_id, id))', 'Unlogged'],
  ['create table t (tenant_id text not null, id bigint, file oid, primary key (tenant_id, id))', 'LargeObjects'],
  [
    'create table t (tenant_id text not null, id bigint, primary key (tenant_id, id)); alter table t replica identity nothing',
    'NoReplicaIdentity',
  ],
  [
    `create table t (tenant_id text generated always as ('x') stored not null, id bigint, primary key (tenant_id, id))`,
    'TenantColumnGenerated',
  ],
  [
    `create collation loose (provider = icu, locale = 'und', deterministic = false);
     create table t (tenant_id text collate loose not null, id bigint, primary key (tenant_id, id))`,
    'TenantColumnCollation',
  ],
  [
    `create table t (tenant_id text not null, id bigint, other text, note bigint, primary key (tenant_id, id),
       foreign key (other, note) references notes (tenant_id, id))`,
    'ForeignKeyWithoutTenant',
  ],
  [
    `create table t (tenant_id text not null, id bigint, note bigint, primary key (tenant_id, id),
       foreign key (tenant_id, note) references notes (tenant_id, id) on delete set null)`,
    'ForeignKeyClearsTenant',
  ],
  [
    'create table t (tenant_id text not null, id int generated always as identity, primary key (tenant_id, id))',
    'NarrowSequence',
  ],
  ['create table t (tenant_id text not null, id serial, primary key (tenant_id, id))', 'NarrowSequence'],
  ['create sequence s increment -1', 'DescendingSequence'],
  ["create function quick() returns void language sql set synchronous_commit = off as 'select'", 'WeakeningSetting'],
  ["create function free() returns void language sql set row_security = 'off' as 'select'", 'WeakeningSetting'],
  ['create materialized view t as select 1 as one', 'MaterializedView'],
  ['create table t (n text) inherits (notes)', 'Inheritance', 'Inheritance'],
  ['create policy open on notes using (true)', 'PermissivePolicy'],
  [
    `create table country (code text primary key);
     create table t (tenant_id text not null, id bigint, country text references country on delete cascade, primary key (tenant_id, id))`,
    'CascadeFromReference',
  ],
  ['create table country (code bigint generated always as identity primary key)', 'ReferenceTableSequence'],
  [
    'create table country (code text primary key, tenant_id text, note bigint, foreign key (tenant_id, note) references notes)',
    'ReferenceToTenantTable',
  ],
];

for (const [sql, ...reasons] of refused) {
  test(`a migration is refused whole, for ${reasons.join(' and ')}: ${sql.replaceAll(/\s+/g, ' ').slice(0, 90)}`, async () => {
    const { operator } = shared;
    const declared = [good, { name: '002', sql: `create table innocent (tenant_id text primary key); ${sql}` }];
    const run = await runMigrations(operator, declared, { referenceTables: ['country'] });
    assert.equal(run.failure?.reason, 'Unprotectable', run.failure?.message);
    assert.equal(run.failure.name, '002');
    assert.deepEqual(
      run.failure.problems.map((problem) => problem.reason),
      reasons,
    );
    assert.ok(run.failure.problems.every((problem) => problem.hint !== '' && problem.message !== ''));
    assert.deepEqual(await tables(operator), ['notes']);
    assert.deepEqual(run.applied, []);
    assert.equal(run.schemaVersion, '001 notes');
  });
}

test('what can be kept apart and can move is accepted', async () => {
  const { operator } = await database(
    [
      good,
      {
        name: '002',
        sql: `
          create table country (code text primary key, name text unique);
          create table items (
            tenant_id text not null, id bigserial, note bigint, country text references country, mail text, span int4range,
            primary key (tenant_id, id), unique (tenant_id, mail),
            foreign key (tenant_id, note) references notes (tenant_id, id) on delete set null (note)
          );
          create unique index on items (tenant_id, lower(mail)) where mail is not null;
          create policy narrow on items as restrictive using (id > 0);
          create table full_identity (tenant_id text not null, id bigint, primary key (tenant_id, id));
          alter table full_identity replica identity full;
          create table parts (tenant_id text not null, id bigint, primary key (tenant_id, id)) partition by hash (tenant_id);
          create table parts_0 partition of parts for values with (modulus 1, remainder 0);
          create schema billing;
          create table billing.invoices (tenant_id text not null, id bigint, primary key (tenant_id, id));
          create view billing.open as select * from billing.invoices;
          create sequence billing.numbers;`,
      },
    ],
    { referenceTables: ['country'] },
  );
  assert.deepEqual(await checkMovable(operator, { referenceTables: ['country'] }), []);
});

const failing: readonly [string, string, Partial<MigrationFailure> & Record<string, unknown>][] = [
  ['a syntax error', 'create tabl t', { reason: 'SqlError', code: '42601', position: 8 }],
  [
    'an error in the middle',
    'create table t (tenant_id text primary key); select 1 / 0',
    { reason: 'SqlError', code: '22012' },
  ],
  [
    'a write to a tenant that is elsewhere',
    `insert into notes (tenant_id) values ('x')`,
    { reason: 'SqlError', code: 'MD001' },
  ],
  ['COMMIT', 'commit', { reason: 'NotTransactional' }],
  ['SET ROLE', 'reset role; alter role meridian_application superuser', { reason: 'NotTransactional' }],
  ['what only a superuser may', `copy notes to program 'true'`, { reason: 'SqlError', code: '42501' }],
  ['CONCURRENTLY', 'create index concurrently on notes (body)', { reason: 'SqlError', code: '25001' }],
];

for (const [name, sql, expected] of failing) {
  test(`a migration that fails leaves nothing behind and stops those after it: ${name}`, async () => {
    const { operator } = shared;
    const later: Migration = { name: '003', sql: 'create table later (tenant_id text primary key)' };
    const run = await runMigrations(operator, [good, { name: '002', sql }, later], { referenceTables: [] });
    assert.partialDeepStrictEqual(run.failure, { name: '002', ...expected });
    assert.deepEqual(await tables(operator), ['notes']);
  });
}

test('a failed migration that was mended is applied, and those after it', async () => {
  const { operator } = await database([good]);
  const later = { name: '003', sql: 'create table later (tenant_id text primary key)' };
  const broken = await runMigrations(operator, [good, { name: '002', sql: 'select 1 / 0' }, later], {
    referenceTables: [],
  });
  assert.equal(broken.failure?.name, '002');
  const mended = await runMigrations(operator, [good, { name: '002', sql: 'select 1' }, later], {
    referenceTables: [],
  });
  assert.deepEqual(mended, { applied: ['002', '003'], total: 3, schemaVersion: '003', failure: undefined });
});

test('migrations run in the declared order, not by name, and once', async () => {
  const declared = ['b', 'a', 'B', '10', '9'].map((name) => ({
    name,
    sql: `create table "t_${name}" (tenant_id text primary key)`,
  }));
  const { operator, migrated } = await database(declared);
  assert.deepEqual(migrated.applied, ['b', 'a', 'B', '10', '9']);
  assert.deepEqual((await runMigrations(operator, declared, { referenceTables: [] })).applied, []);
  const swapped = await runMigrations(operator, declared.toSpliced(0, 2, declared[1] ?? good, declared[0] ?? good), {
    referenceTables: [],
  });
  assert.equal(swapped.failure?.reason, 'OrderChanged');
  const changed = await runMigrations(operator, declared.with(2, { name: 'B', sql: 'select 2' }), {
    referenceTables: [],
  });
  assert.equal(changed.failure?.reason, 'Changed');
  assert.equal(changed.failure.name, 'B');
  const gone = await runMigrations(operator, declared.slice(0, 4), { referenceTables: [] });
  assert.equal(gone.failure?.reason, 'OrderChanged');
});

test('two operators that migrate at once apply each migration once', async () => {
  const shop = await database();
  const declared = [
    good,
    { name: '002', sql: 'select pg_sleep(0.2); create table other (tenant_id text primary key)' },
  ];
  const second = await shop.connect('meridian_operator');
  const runs = await Promise.allSettled([
    runMigrations(shop.operator, declared, { referenceTables: [] }),
    runMigrations(second, declared, { referenceTables: [] }),
  ]);
  // The later one may find its work done (and says so), but nothing is applied twice or half.
  assert.ok(runs.some((run) => run.status === 'fulfilled' && run.value.total === 2));
  assert.deepEqual(await runMigrations(second, declared, { referenceTables: [] }), {
    applied: [],
    total: 2,
    schemaVersion: '002',
    failure: undefined,
  });
});

test('an unchanged schema is left alone: no strong lock, not even behind a long query', async () => {
  const shop = await database([good], { referenceTables: [] });
  const reader = await shop.connect('meridian_operator');
  await reader.query('begin');
  await reader.query('select * from notes');
  await installOwnership(shop.operator, { tenantKey: { column: 'tenant_id', type: 'text' }, shardOrdinal: 0 });
  assert.deepEqual(await protectTables(shop.operator, { referenceTables: [] }), []);
  await reader.query('rollback');
  const xmins = `select array_agg(xmin::text order by oid) as x from pg_class where relnamespace = 'public'::regnamespace`;
  const before = (await reader.query(xmins)).rows;
  await protectTables(shop.operator, { referenceTables: [] });
  assert.deepEqual((await reader.query(xmins)).rows, before);
});

test('protection that was taken away or changed by hand is seen and put back', async () => {
  const { operator } = await database([good]);
  const damages = [
    'alter table notes disable row level security',
    'alter table notes no force row level security',
    'drop policy meridian_delete on notes',
    'alter policy meridian_select on notes using (true)',
    'alter table notes disable trigger meridian_statement',
    'drop trigger meridian_statement on notes',
    'drop trigger meridian_truncate on notes',
  ];
  for (const damage of damages) {
    await operator.query(damage);
    const found = await checkMovable(operator, { referenceTables: [] });
    assert.deepEqual(
      found.map((problem) => problem.reason),
      ['Unprotected'],
      damage,
    );
    assert.deepEqual(await protectTables(operator, { referenceTables: [] }), []);
    assert.deepEqual(await checkMovable(operator, { referenceTables: [] }), [], damage);
  }
});

test('a table that becomes a reference table is opened for reading, and closed to writing; and back', async () => {
  const shop = await database([{ name: '1', sql: 'create table t (tenant_id text primary key)' }]);
  await protectTables(shop.operator, { referenceTables: ['t'] });
  const facts = `select relrowsecurity as pinned, has_table_privilege('meridian_application', 't', 'SELECT') as reads,
    has_table_privilege('meridian_application', 't', 'INSERT, UPDATE, DELETE, TRUNCATE') as writes from pg_class where relname = 't'`;
  assert.deepEqual((await shop.operator.query(facts)).rows, [{ pinned: false, reads: true, writes: false }]);
  await protectTables(shop.operator, { referenceTables: [] });
  assert.deepEqual((await shop.operator.query(facts)).rows, [{ pinned: true, reads: true, writes: true }]);
});

test('a sequence whose bounds a migration changes goes on after the last value that it gave out', async () => {
  const sql = 'create sequence s; create sequence fresh';
  for (const shardOrdinal of [0, 3]) {
    const { operator } = await database([good, { name: '2', sql }], { shardOrdinal });
    const { minimum } = sequenceRange(shardOrdinal);
    const next = async (name: string): Promise<bigint> =>
      BigInt((await operator.query<{ v: string }>(`select nextval('${name}') as v`)).rows[0]?.v ?? '');
    assert.deepEqual([await next('s'), await next('s')], [minimum, minimum + 1n]);
    await operator.query('alter sequence s no maxvalue; alter sequence fresh no maxvalue');
    await protectTables(operator, { referenceTables: [] });
    assert.deepEqual([await next('s'), await next('fresh')], [minimum + 2n, minimum]);
  }
});

test('shards of different ordinals draw from ranges that do not meet, and ranges are set once', async () => {
  const sql = `create sequence s increment 10 cache 50 cycle; create sequence small maxvalue 100 start 7`;
  for (const shardOrdinal of [0, 3, 8191]) {
    const { operator } = await database([good, { name: '2', sql }], { shardOrdinal });
    const { minimum, maximum } = sequenceRange(shardOrdinal);
    const next = async (): Promise<bigint[]> => {
      const { rows } = await operator.query<{ v: string }>(
        `select nextval(c.oid) as v from pg_class c join pg_namespace n on n.oid = relnamespace where relkind = 'S' and nspname = 'public' order by relname`,
      );
      return rows.map((row) => BigInt(row.v));
    };
    assert.deepEqual(await next(), [minimum, minimum, minimum]);
    await protectTables(operator, { referenceTables: [] });
    assert.deepEqual(await next(), [minimum + 1n, minimum + 10n, minimum + 1n]);
    await operator.query('alter sequence s cache 20');
    await protectTables(operator, { referenceTables: [] });
    assert.deepEqual(await next(), [minimum + 2n, minimum + 20n, minimum + 2n]);
    assert.ok(maximum <= BigInt(Number.MAX_SAFE_INTEGER));
    const application = await operator.query(
      `select has_sequence_privilege('meridian_application', 's', 'UPDATE') as sets`,
    );
    assert.deepEqual(application.rows, [{ sets: false }]);
  }
});

test('a database does not change its tenant key or its ordinal', async () => {
  const { operator } = await database();
  const right = { tenantKey: { column: 'tenant_id', type: 'text' }, shardOrdinal: 0 } as const;
  await installOwnership(operator, right);
  await assert.rejects(installOwnership(operator, { ...right, shardOrdinal: 1 }), OwnershipSettingsError);
  const otherKey = { ...right, tenantKey: { column: 'account', type: 'text' } } as const;
  await assert.rejects(installOwnership(operator, otherKey), OwnershipSettingsError);
});

test('protecting waits only so long for a table that is in use, and says so', async () => {
  const shop = await database([good]);
  await shop.operator.query('alter table notes no force row level security');
  const reader = await shop.connect('meridian_operator');
  await reader.query('begin');
  await reader.query('select * from notes');
  await assert.rejects(protectTables(shop.operator, { referenceTables: [] }), { code: '55P03' });
});
