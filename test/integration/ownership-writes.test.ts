/**
 * A shard accepts writes of a tenant exactly while it owns it, whoever sends them (design, section 5, "Ownership"; traps M6, B3, B14, B15).
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, DatabaseError } from 'pg';
import { installOwnership } from '#operator/postgres/ownership/install.ts';
import { tenantLockClass } from '#operator/postgres/ownership/lock.ts';
import { readTenants, removeTenant, setTenant, type TenantAuthority } from '#operator/postgres/ownership/tenants.ts';
import { KeyspaceDatabase, PostgresFixture } from './postgres-fixture.ts';

const active: TenantAuthority = { epoch: 1, state: 'active', attempt: 0 };

let postgres: PostgresFixture;
let shop: KeyspaceDatabase;
/** A second session of the operator, as a mover would have. */
let mover: Client;

before(async () => {
  postgres = await PostgresFixture.start({ parameters: { max_prepared_transactions: '5' } });
  shop = await KeyspaceDatabase.make(postgres, {
    database: 'shop',
    migrations: [
      {
        name: '001',
        sql: `
          create table notes (tenant_id text not null, id bigint generated always as identity, body text, primary key (tenant_id, id));
          create table lines (
            tenant_id text not null, note_id bigint not null, n int not null, primary key (tenant_id, note_id, n),
            foreign key (tenant_id, note_id) references notes (tenant_id, id) on delete cascade
          );
          create table events (tenant_id text not null, id bigint not null, primary key (tenant_id, id)) partition by hash (id);
          create table events_0 partition of events for values with (modulus 2, remainder 0);
          create table events_1 partition of events for values with (modulus 2, remainder 1);
          create function pick(tenant text) returns text language plpgsql volatile as
            'begin perform set_config(''meridian.tenant'', tenant, false); return tenant; end';`,
      },
    ],
    roles: {
      acme_app: { tenants: ['acme'] },
      pair_app: { tenants: ['acme', 'bolt'] },
      any_app: { anyTenant: true },
      // Owned by another shard.
      away_app: { tenants: ['away'] },
    },
  });
  mover = await shop.connect('meridian_operator');
});

beforeEach(async () => {
  await shop.operator.query(`delete from meridian.ownership`);
  for (const key of ['acme', 'bolt']) await setTenant(shop.operator, { key, ...active });
});

after(() => postgres.stop());

const codeOf = async (work: Promise<unknown>): Promise<string | undefined> => {
  try {
    await work;
    return undefined;
  } catch (error) {
    return (error as DatabaseError).code ?? String(error);
  }
};

const insert = `insert into notes (tenant_id, body) values ('acme', 'x') returning id`;

/** As migrations write: in the operator's session, as the tables' owner. */
async function asOwner(sql: string): Promise<unknown> {
  await shop.operator.query('set role meridian_owner');
  try {
    return await shop.operator.query(sql);
  } finally {
    await shop.operator.query('reset role');
  }
}

async function untilWaiting(query: string): Promise<void> {
  for (let i = 0; i < 3_000; i++) {
    const { rows } = await shop.operator.query<{ n: number }>(
      `select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock' and query like $1`,
      [query],
    );
    if ((rows[0]?.n ?? 0) > 0) return;
    await sleep(10);
  }
  assert.fail(`nobody waits in ${query}`);
}

const frozenFor = (ms: number, attempt = 1) =>
  ({ epoch: 1, state: 'frozen', attempt, until: new Date(Date.now() + ms), from: active }) as const;

const freeze = (key: string, client = mover) => setTenant(client, { key, ...frozenFor(60_000) });

const writes: Readonly<Record<string, string>> = {
  insert: `insert into notes (tenant_id, body) values ('acme', 'x')`,
  upsert: `insert into notes (tenant_id, id, body) overriding system value values ('acme', 0, 'x') on conflict (tenant_id, id) do update set body = 'y'`,
  update: `update notes set body = 'y'`,
  delete: 'delete from notes',
  merge: `merge into notes n using (values ('acme', 0)) v(t, i) on n.tenant_id = v.t and n.id = v.i
    when matched then delete when not matched then insert (tenant_id, body) values (v.t, 'x')`,
  'a write inside a query': `with w as (insert into notes (tenant_id, body) values ('acme', 'x') returning id) select * from w`,
  'a write inside a function': `do $$ begin insert into notes (tenant_id, body) values ('acme', 'x'); end $$`,
  'a partitioned table': `insert into events values ('acme', 1) on conflict do nothing`,
};

for (const [name, sql] of Object.entries(writes)) {
  test(`${name}: accepted while the tenant is active, MD001 in every other state`, async () => {
    await asOwner(
      `insert into notes (tenant_id, id, body) overriding system value values ('acme', 0, 'x') on conflict do nothing`,
    );
    const fixed = await shop.connect('acme_app');
    const several = await shop.connect('pair_app', '-c meridian.tenant=acme');
    const sessions = [fixed, several];
    for (const session of sessions) {
      await session.query('begin');
      assert.equal(await codeOf(session.query(sql)), undefined);
      await session.query('rollback');
    }
    const states: readonly TenantAuthority[] = [
      frozenFor(60_000),
      { epoch: 1, state: 'sealed', attempt: 1 },
      { epoch: 1, state: 'moved', attempt: 1 },
      { epoch: 1, state: 'cleaning', attempt: 1 },
    ];
    let from = active;
    for (const state of states) {
      assert.deepEqual(await setTenant(mover, { key: 'acme', ...state, from }), { kind: 'written' });
      from = { epoch: state.epoch, state: state.state, attempt: state.attempt };
      for (const session of sessions) assert.equal(await codeOf(session.query(sql)), 'MD001', state.state);
      // Whoever sends it: a superuser's own session, and one that writes as migrations do.
      assert.equal(await codeOf(shop.operator.query(sql)), 'MD001');
      assert.equal(await codeOf(asOwner(sql)), 'MD001');
    }
    assert.deepEqual(await removeTenant(mover, { key: 'acme', from }), { kind: 'written' });
    for (const session of sessions) assert.equal(await codeOf(session.query(sql)), 'MD001', 'absent');
    for (const session of sessions) assert.equal((await session.query('select count(*) from notes')).rowCount, 1);
  });
}

test('the refusal names the tenant, says what to do, and does not depend on the rows that are there', async () => {
  const away = await shop.connect('away_app');
  await assert.rejects(away.query('delete from notes'), (error: DatabaseError) => {
    assert.equal(error.code, 'MD001');
    assert.match(error.message, /"away"/);
    assert.match(error.hint ?? '', /find its place anew/);
    return true;
  });
});

test('a freeze waits for open writes; meanwhile later ones fail at once and reads go on', async () => {
  const [early, late, several] = [
    await shop.connect('acme_app'),
    await shop.connect('acme_app'),
    await shop.connect('any_app', '-c meridian.tenant=acme'),
  ];
  await early.query('begin');
  await early.query(insert);
  const freezing = freeze('acme');
  await untilWaiting('%pg_advisory_xact_lock%');
  const before = performance.now();
  assert.equal(await codeOf(late.query(insert)), 'MD001');
  assert.equal(await codeOf(several.query(insert)), 'MD001');
  assert.ok(performance.now() - before < 30_000);
  await late.query('select * from notes');
  // Who holds the lock already goes on writing, and another tenant isn't concerned.
  await early.query(insert);
  await several.query(`set meridian.tenant = 'bolt'`);
  await several.query(`insert into notes (tenant_id) values ('bolt')`);
  await early.query('commit');
  assert.deepEqual(await freezing, { kind: 'written' });
  assert.equal(await codeOf(late.query(insert)), 'MD001');
});

test('a freeze that gives up leaves the tenant as it was', async () => {
  const writer = await shop.connect('acme_app');
  await writer.query('begin');
  await writer.query(insert);
  const impatient = await shop.connect('meridian_operator', '-c lock_timeout=100');
  assert.equal(await codeOf(freeze('acme', impatient)), '55P03');
  await writer.query(insert);
  await writer.query('commit');
  assert.equal((await readTenants(mover)).find((tenant) => tenant.key === 'acme')?.state, 'active');
});

for (const level of ['repeatable read', 'serializable']) {
  test(`a ${level} snapshot from before a freeze can not be written from`, async () => {
    for (const [user, options] of [
      ['acme_app', ''],
      ['pair_app', '-c meridian.tenant=acme'],
    ] as const) {
      const session = await shop.connect(user, options);
      await session.query(`begin isolation level ${level}`);
      await session.query('select count(*) from notes');
      assert.deepEqual(await freeze('acme'), { kind: 'written' });
      assert.equal(await codeOf(session.query(insert)), '40001');
      await session.query('rollback');
      await setTenant(mover, { key: 'acme', ...active, from: { epoch: 1, state: 'frozen', attempt: 1 } });
      await session.query(`begin isolation level ${level}`);
      await session.query(insert);
      await session.query('commit');
    }
  });
}

test('a setting that changes inside the statement does not get around the check of the row', async () => {
  const session = await shop.connect('any_app', '-c meridian.tenant=acme');
  const sneak = `insert into notes (tenant_id, body) select pick('bolt'), 'x'`;
  const { rows } = await shop.operator.query<{ serial: number }>(
    `select serial from meridian.tenant where key = 'bolt'`,
  );
  await session.query('begin');
  // Whether the policy sees the old or the new setting is Postgres' affair; that the row's own tenant is locked is ours.
  const code = await codeOf(session.query(sneak));
  if (code === undefined) {
    const locks = await shop.operator.query('select from pg_locks where classid = $1 and objid = $2 and granted', [
      tenantLockClass,
      rows[0]?.serial,
    ]);
    assert.equal(locks.rowCount, 1);
  }
  await session.query('rollback');
  await session.query(`set meridian.tenant = 'acme'`);
  await freeze('bolt');
  assert.equal(await codeOf(session.query(sneak)), 'MD001');
});

test('a row that changes its tenant is a write for both', async () => {
  await asOwner(`insert into notes (tenant_id, body) values ('acme', 'x')`);
  const move = (from: string, to: string) =>
    codeOf(asOwner(`update notes set tenant_id = '${to}' where tenant_id = '${from}' and body = 'x'`));
  await freeze('bolt');
  assert.equal(await move('acme', 'bolt'), 'MD001');
  assert.equal(await codeOf(asOwner(`insert into notes (tenant_id) values ('nobody')`)), 'MD001');
});

test('an application gives no row to another tenant, not even by changing the setting in the same statement', async () => {
  await asOwner(`insert into notes (tenant_id, body) values ('acme', 'mine'); insert into events values ('acme', 900)`);
  const session = await shop.connect('any_app', '-c meridian.tenant=acme');
  assert.equal(await codeOf(session.query(`update notes set tenant_id = pick('bolt')`)), '42501');
  assert.equal(await codeOf(session.query(`set meridian.tenant = acme; update notes set tenant_id = 'bolt'`)), '42501');
  await session.query(
    `set meridian.tenant = acme; update notes set tenant_id = 'acme', body = 'still mine' where body = 'mine'`,
  );
  // Between partitions no trigger fires: there both tenants are claimed.
  await freeze('acme');
  assert.equal(
    await codeOf(session.query(`set meridian.tenant = acme; update events set tenant_id = pick('bolt'), id = id + 1`)),
    'MD001',
  );
  await asOwner(`delete from events where tenant_id = 'acme'`).catch(() => {});
});

test('one transaction holds one lock per tenant, however many rows it writes', async () => {
  const session = await shop.connect('pair_app', '-c meridian.tenant=acme');
  await session.query('begin');
  await session.query(`insert into notes (tenant_id, body) select 'acme', 'many' from generate_series(1, 2000)`);
  await session.query(`delete from notes where body = 'many'`);
  const { rows } = await session.query<{ n: number }>(
    'select count(*)::int as n from pg_locks where pid = pg_backend_pid() and locktype = $1',
    ['advisory'],
  );
  assert.deepEqual(rows, [{ n: 1 }]);
  await session.query('rollback');
});

test('a cascade is checked like the write that caused it', async () => {
  await asOwner(
    `insert into notes (tenant_id, id) overriding system value values ('acme', 77); insert into lines values ('acme', 77, 1)`,
  );
  for (const [user, options] of [
    ['acme_app', ''],
    ['any_app', '-c meridian.tenant=acme'],
  ] as const) {
    const session = await shop.connect(user, options);
    await session.query('begin');
    await session.query('delete from notes where id = 77');
    assert.equal((await session.query('select from lines')).rowCount, 0);
    await session.query('rollback');
  }
});

test('TRUNCATE is refused to everybody, on partitions too', async () => {
  for (const table of ['notes cascade', 'lines', 'events', 'events_0']) {
    assert.equal(await codeOf(shop.operator.query(`truncate ${table}`)), 'MD001', table);
  }
});

test('a partition is no way around the check', async () => {
  await freeze('acme');
  const sql = `insert into events_0 select 'acme', g from generate_series(1, 50) g on conflict do nothing`;
  assert.equal(await codeOf(asOwner(sql)), 'MD001');
  assert.equal(await codeOf(shop.operator.query(sql)), 'MD001');
});

test('a superuser writes as the owner of the tables, or not at all', async () => {
  await assert.rejects(shop.operator.query(insert), { code: 'MD001', hint: /SET ROLE meridian_owner/ });
  await asOwner(insert);
  // What applies a move's rows says so, and is not checked.
  await shop.operator.query('begin; set local session_replication_role = replica');
  await shop.operator.query(`insert into notes (tenant_id) values ('elsewhere')`);
  await shop.operator.query('rollback');
});

test('the first writer after its end lifts a freeze, and the seal finds it lifted', async () => {
  const writer = await shop.connect('acme_app');
  const frozen = frozenFor(2_000);
  await setTenant(mover, { key: 'acme', ...frozen });
  assert.equal(await codeOf(writer.query(insert)), 'MD001');
  while (Date.now() <= frozen.until.getTime() + 50) await sleep(50);
  const from = { epoch: 1, state: 'frozen', attempt: 1 } as const;
  // Expired, though nobody has written yet: too late to seal.
  const late = await setTenant(mover, { key: 'acme', epoch: 1, state: 'sealed', attempt: 1, from });
  assert.equal(late.kind, 'refused');
  await writer.query('begin');
  await writer.query(insert);
  const sealing = setTenant(mover, { key: 'acme', epoch: 1, state: 'sealed', attempt: 1, from });
  await untilWaiting('%pg_advisory_xact_lock%');
  await writer.query('commit');
  const result = await sealing;
  assert.equal(result.kind, 'refused');
  assert.equal(result.kind === 'refused' && result.found?.state, 'active');
});

test('a sealed freeze is not lifted by time', async () => {
  const frozen = frozenFor(2_000);
  await setTenant(mover, { key: 'acme', ...frozen });
  const from = { epoch: 1, state: 'frozen', attempt: 1 } as const;
  assert.deepEqual(await setTenant(mover, { key: 'acme', epoch: 1, state: 'sealed', attempt: 1, from }), {
    kind: 'written',
  });
  while (Date.now() <= frozen.until.getTime() + 50) await sleep(50);
  const writer = await shop.connect('acme_app');
  assert.equal(await codeOf(writer.query(insert)), 'MD001');
});

test('a change that was decided on what no longer is changes nothing', async () => {
  const again = await setTenant(mover, { key: 'acme', ...active });
  assert.deepEqual(again, { kind: 'unchanged' });
  const next = { epoch: 2, state: 'active', attempt: 1 } as const;
  assert.equal((await setTenant(mover, { key: 'acme', ...next })).kind, 'refused', 'the row is there');
  assert.equal((await setTenant(mover, { key: 'acme', ...next, from: { ...active, attempt: 5 } })).kind, 'refused');
  assert.equal((await setTenant(mover, { key: 'new', ...next, from: active })).kind, 'refused', 'the row is not there');
  assert.deepEqual(await setTenant(mover, { key: 'acme', ...next, from: active }), { kind: 'written' });
  assert.equal(
    (await setTenant(mover, { key: 'acme', ...active, from: next })).kind,
    'refused',
    'epochs never go down',
  );
  assert.equal((await removeTenant(mover, { key: 'acme', from: active })).kind, 'refused');
});

test('a change of ownership that was rolled back changes nothing for writers, nor for the next change', async () => {
  const fixed = await shop.connect('acme_app');
  const several = await shop.connect('pair_app', '-c meridian.tenant=acme');
  for (const session of [fixed, several]) await session.query(insert);
  await mover.query(`begin; update meridian.ownership set state = 'moved' where key = 'acme'; rollback`);
  for (const session of [fixed, several]) await session.query(insert);
  await freeze('acme');
  for (const session of [fixed, several]) assert.equal(await codeOf(session.query(insert)), 'MD001');
  const ahead = async () =>
    (
      await mover.query(
        `select pg_sequence_last_value('meridian.ownership_version') - version as by from meridian.ownership_change`,
      )
    ).rows;
  assert.deepEqual(await ahead(), [{ by: '0' }]);
  await mover.query(`begin; update meridian.ownership set state = 'moved', until = null where key = 'acme'; rollback`);
  assert.deepEqual(await ahead(), [{ by: '1' }]);
  await installOwnership(mover, { tenantKey: { column: 'tenant_id', type: 'text' }, shardOrdinal: 0 });
  assert.deepEqual(await ahead(), [{ by: '0' }]);
});

test("locks that applications may take don't stop a freeze", async () => {
  const squatter = await shop.connect('any_app');
  const { serial } = (await readTenants(mover)).find((tenant) => tenant.key === 'acme') ?? assert.fail();
  const asOne = (BigInt(tenantLockClass) << 32n) | BigInt(serial);
  await squatter.query('select pg_advisory_lock($1)', [asOne]);
  const impatient = await shop.connect('meridian_operator', '-c lock_timeout=10000');
  assert.deepEqual(await freeze('acme', impatient), { kind: 'written' });
});

test('a prepared transaction keeps its tenant from being frozen', async () => {
  const writer = await shop.connect('acme_app');
  await writer.query('begin');
  await writer.query(insert);
  await writer.query(`prepare transaction 'p1'`);
  const impatient = await shop.connect('meridian_operator', '-c lock_timeout=100');
  assert.equal(await codeOf(freeze('acme', impatient)), '55P03');
  await writer.query(`commit prepared 'p1'`);
  assert.deepEqual(await freeze('acme', impatient), { kind: 'written' });
});

test('no row appears while a tenant is frozen, and a stream of writers does not starve the freeze', async () => {
  const end = new AbortController();
  const count = async () => (await shop.operator.query(`select count(*)::int as n, max(id) from notes`)).rows;
  const accepted = Array.from({ length: 6 }, () => 0);
  const write = async (which: number, user: string, options: string): Promise<void> => {
    const session = await shop.connect(user, options);
    while (!end.signal.aborted) {
      await session.query('begin');
      const code = await codeOf(session.query(insert));
      assert.ok(code === undefined || code === 'MD001', code);
      if (code === undefined) {
        await sleep(5);
        await session.query('commit');
        accepted[which] = (accepted[which] ?? 0) + 1;
      } else {
        await session.query('rollback');
        await sleep(1);
      }
    }
  };
  const writers = accepted.map((_, i) =>
    i % 2 === 0 ? write(i, 'acme_app', '') : write(i, 'any_app', '-c meridian.tenant=acme'),
  );
  /** Every writer has got through since then. */
  const untilAllWrote = async (since: readonly number[]): Promise<void> => {
    for (const giveUpAt = performance.now() + 60_000; accepted.some((count, i) => count <= (since[i] ?? 0)); ) {
      assert.ok(performance.now() < giveUpAt, `accepted: ${accepted.join()}`);
      await sleep(5);
    }
  };
  await untilAllWrote([]);
  let from: TenantAuthority = active;
  for (let attempt = 1; attempt <= 5; attempt++) {
    await sleep(50);
    const before = performance.now();
    const frozen = { epoch: 1, state: 'frozen', attempt } as const;
    assert.deepEqual(await setTenant(mover, { key: 'acme', ...frozen, until: new Date(Date.now() + 60_000), from }), {
      kind: 'written',
    });
    assert.ok(performance.now() - before < 30_000);
    const atFreeze = await count();
    await sleep(50);
    assert.deepEqual(await count(), atFreeze);
    from = { epoch: 1, state: 'active', attempt };
    await setTenant(mover, { key: 'acme', ...from, from: frozen });
  }
  await untilAllWrote([...accepted]);
  end.abort();
  await Promise.all(writers);
});
