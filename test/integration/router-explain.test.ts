/** `EXPLAIN (ROUTE)`: where a statement would go, and why, as any client sees it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type pg from 'pg';
import { refused, waitFor } from './router-assertions.ts';
import { RouterKeyspace, type TestRouter } from './router-keyspace.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;
let ap: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
  ap = await keyspace.router('ap');
});
after(() => keyspace?.stop());

type Line = Readonly<Record<'item' | 'value' | 'why', string | null>>;

/** Item -> [value, why]. */
async function explained(client: pg.Client, sql: string, values: unknown[] = []) {
  const { rows, command, fields } = await client.query<Line>(sql, values.length === 0 ? undefined : values);
  assert.equal(command, 'EXPLAIN');
  assert.deepEqual(
    fields.map(({ name }) => name),
    ['item', 'value', 'why'],
  );
  return new Map(rows.map(({ item, value, why }) => [item, [value, why] as const]));
}

test('tells tenant, shard, member, consistency, and why', async () => {
  await router.with('any_app', async (client) => {
    const lines = await explained(client, "explain (route) select * from accounts where tenant_id = 'bolt'");
    assert.deepEqual(lines.get('tenant'), ['bolt', 'every tenant-owned table is restricted to it, by its text']);
    assert.deepEqual(lines.get('shard'), ['two', 'owns the tenant, epoch 1, active']);
    assert.deepEqual(lines.get('member'), ['two-us-0', 'the primary, region us']);
    assert.deepEqual(lines.get('consistency'), ['strong', "the keyspace's default"]);
    assert.equal(lines.get('access')?.[0], 'read');
    assert.equal(lines.get('shares')?.[0], 'yes');
    const write = await explained(client, "EXPLAIN (ROUTE) delete from accounts where tenant_id = 'acme'");
    assert.equal(write.get('access')?.[0], 'write');
    const none = await explained(client, 'explain (route) select 1');
    assert.deepEqual(none.get('tenant'), [null, 'it touches no tenant-owned table']);
  });
  await ap.with('acme_app', async (client) => {
    await client.query("set meridian.consistency = 'eventual'");
    const route = 'explain (route) select * from accounts';
    // Followers are as near as their agents' last word is young.
    await waitFor(async () => (await explained(client, route)).get('member')?.[0] === 'one-ap-0');
    const lines = await explained(client, route);
    assert.deepEqual(lines.get('tenant'), ['acme', `role "acme_app" is that tenant's own`]);
    assert.deepEqual(lines.get('consistency'), ['eventual', 'meridian.consistency']);
    assert.deepEqual(lines.get('member'), ['one-ap-0', 'the nearest follower that may, region ap']);
    assert.deepEqual(lines.get('otherwise'), ['one-eu-0', 'in that order']);
    const hinted = await explained(client, "/* consistency='strong' */ explain (route) select * from accounts");
    assert.deepEqual(hinted.get('consistency'), ['strong', 'the comment at its start']);
    assert.equal(hinted.get('member')?.[0], 'one-eu-0');
  });
});

test('tells why a statement would be refused, and runs nothing', async () => {
  await router.with('any_app', async (client) => {
    const open = await explained(client, 'explain (route) delete from accounts');
    assert.equal(open.get('refused')?.[0], 'MD003');
    const forbidden = await explained(client, 'explain (route) select pg_terminate_backend(1)');
    assert.equal(forbidden.get('refused')?.[0], '42501');
    await assert.rejects(client.query('explain (route, analyze) select 1'), refused('42601'));
    await assert.rejects(client.query('explain (route) selct 1'), refused('42601'));
  });
  await router.with('acme_app', async (client) => {
    const other = await explained(client, "explain (route) select * from accounts where tenant_id = 'bolt'");
    assert.equal(other.get('refused')?.[0], 'MD004');
  });
});

test('takes parameters as the statement itself would', async () => {
  await router.with('any_app', async (client) => {
    for (const [tenant, shard] of [
      ['acme', 'one'],
      ['bolt', 'two'],
    ] as const) {
      const lines = await explained(client, 'explain (route) select * from accounts where tenant_id = $1 and id = $2', [
        tenant,
        5,
      ]);
      assert.equal(lines.get('shard')?.[0], shard);
      assert.deepEqual(lines.get('tenant'), [tenant, 'every tenant-owned table is restricted to it, by parameters']);
    }
    const unknown = await explained(client, 'explain (route) select * from accounts where tenant_id = $1', [null]);
    assert.equal(unknown.get('refused')?.[0], 'MD003');
  });
});
