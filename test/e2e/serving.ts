/** What applications see: psql, pgbench in all three modes and node-postgres, through routers, with TLS verified. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from '#cluster/cluster.ts';
import { annotations } from '#core/names.ts';
import {
  connect,
  type Login,
  type RouterEndpoint,
  readLogin,
  routerEndpoint,
  servedBy,
} from '../../demo/application.ts';
import { waitUntilReady } from '../../demo/installation.ts';

const keyspace = 'shop';
const tenant = 'acme';
/** Where the example says that the tenant lives. */
const shard = 'shop-a';
const patienceMs = 240_000;

/** Runs a Postgres client program in a member's pod, which has the keyspace's CA at hand. */
async function inPod(cluster: Cluster, namespace: string, login: Login, ...command: string[]): Promise<string> {
  return cluster.kubectl([
    'exec',
    '-n',
    namespace,
    'shop-a-eu-0',
    '-c',
    'postgres',
    '--',
    'env',
    `PGPASSWORD=${login.password}`,
    `PGUSER=${login.user}`,
    `PGDATABASE=${login.database}`,
    'PGSSLMODE=verify-full',
    'PGSSLROOTCERT=/etc/meridian/tls/ca.crt',
    ...command,
  ]);
}

export function serving(clusterOf: () => Cluster, namespace: string): void {
  let cluster: Cluster;
  let login: Login;
  let eu: RouterEndpoint;
  let ap: RouterEndpoint;

  /** Of the tenant's shard, which each failover and switchover raises. */
  const authority = async (): Promise<{ readonly epoch: number; readonly region: string }> =>
    JSON.parse(
      await cluster.kubectl(['-n', namespace, 'get', 'shard', shard, '-o', 'jsonpath={.status.authority}']),
    ) as { epoch: number; region: string };

  /**
   * What applications see while nothing happens. A machine that stalls for seconds has authority move, rightly, and connections
   * are lost by that: then once more.
   */
  async function undisturbed(work: () => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      const { epoch } = await authority();
      try {
        return await work();
      } catch (error) {
        // The record says so only after the connections are gone.
        for (const giveUpAt = performance.now() + 15_000; (await authority()).epoch === epoch; await sleep(1_000))
          if (performance.now() > giveUpAt) throw error;
        if (attempt === 3) throw error;
        await waitUntilReady(cluster, namespace, patienceMs);
      }
    }
  }

  before(async () => {
    cluster = clusterOf();
    // Where authority has moved meanwhile, for the same reason: these tests want a follower in ap.
    const isInAp = async (): Promise<boolean> => (await authority()).region === 'ap';
    if (await isInAp()) {
      await cluster.kubectl(['-n', namespace, 'annotate', 'shard', shard, `${annotations.switchover}=eu`]);
      for (const giveUpAt = performance.now() + patienceMs; await isInAp(); await sleep(500))
        assert.ok(performance.now() < giveUpAt, 'authority stays in ap');
      await waitUntilReady(cluster, namespace, patienceMs);
    }
    login = await readLogin(cluster, namespace, keyspace, 'shop_app');
    eu = await routerEndpoint(cluster, namespace, keyspace, 'eu');
    ap = await routerEndpoint(cluster, namespace, keyspace, 'ap');
  });

  const insert = (sku: string): string =>
    `insert into products (tenant_id, sku, name, price_cents, currency) values ('${tenant}', '${sku}', 'A product', 1999, 'EUR')`;

  test('a row written through the eu router is read with eventual through the ap router, from a follower in ap', () =>
    undisturbed(async () => {
      const writer = await connect(eu, login, `-c meridian.tenant=${tenant}`);
      const reader = await connect(ap, login, `-c meridian.tenant=${tenant}`);
      try {
        await writer.query(`${insert('across-regions')} on conflict do nothing`);
        assert.equal((await servedBy(writer)).role, 'primary');
        await reader.query("set meridian.consistency = 'eventual'");
        for (const giveUpAt = performance.now() + 60_000; ; await sleep(100)) {
          const found = await reader.query("select name from products where sku = 'across-regions'");
          const { region, role } = await servedBy(reader);
          if (found.rowCount === 1 && region === 'ap' && role === 'follower') break;
          assert.ok(performance.now() < giveUpAt, `after 60 s ${found.rowCount} rows from the ${role} in ${region}`);
        }
      } finally {
        await writer.end();
        await reader.end();
      }
    }));

  test('a strong read through the ap router is answered by the primary', async () => {
    const client = await connect(ap, login, `-c meridian.tenant=${tenant}`);
    try {
      const found = await client.query("select name from products where sku = 'across-regions'");
      assert.equal(found.rowCount, 1);
      assert.equal((await servedBy(client)).role, 'primary');
    } finally {
      await client.end();
    }
  });

  test('a service in ap that is handed the token of a commit through eu reads it at once, mostly from the follower in ap', () =>
    undisturbed(async () => {
      const writer = await connect(eu, login, `-c meridian.tenant=${tenant}`);
      const reader = await connect(ap, login, `-c meridian.tenant=${tenant} -c meridian.consistency=causal`);
      let byFollower = 0;
      try {
        for (let n = 0; n < 30; n += 1) {
          const sku = `handed-on-${Date.now()}-${n}`;
          await writer.query(insert(sku));
          const token = (await writer.query('show meridian.token')).rows[0]['meridian.token'] as string;
          const found = await reader.query(`/* token='${token}' */ select name from products where sku = '${sku}'`);
          assert.equal(found.rowCount, 1, `${sku} is missing`);
          const { region, role } = await servedBy(reader);
          if (region === 'ap' && role === 'follower') byFollower += 1;
        }
        assert.ok(byFollower >= 15, `only ${byFollower} of 30 were read from the follower in ap`);
      } finally {
        await writer.end();
        await reader.end();
      }
    }));

  test('psql lists tables and reads a tenant’s rows', async () => {
    const conninfo = `host=${eu.host} options='-c meridian.tenant=${tenant}'`;
    const described = await inPod(cluster, namespace, login, 'psql', conninfo, '-c', '\\d products');
    assert.match(described, /tenant_id/);
    const rows = await inPod(
      cluster,
      namespace,
      login,
      'psql',
      conninfo,
      '-Atc',
      "select tenant_id from products where sku = 'across-regions'",
    );
    assert.equal(rows.trim(), tenant);
  });

  for (const mode of ['simple', 'extended', 'prepared'] as const) {
    test(`pgbench -M ${mode} with a tenant-keyed script runs without an error`, () =>
      undisturbed(async () => {
        const script = `select count(*) from products where tenant_id = '${tenant}' and sku = 'sku-' || :n;`;
        const output = await inPod(
          cluster,
          namespace,
          login,
          'bash',
          '-c',
          `printf '%s\\n' '\\set n random(1, 10)' "$1" > /tmp/read.sql && exec pgbench -n -f /tmp/read.sql -M ${mode} -c 4 -j 1 -t 250 "host=${eu.host}"`,
          'pgbench',
          script,
        );
        assert.match(output, /number of transactions actually processed: 1000\/1000/);
        assert.match(output, /number of failed transactions: 0/);
      }));
  }

  test('a node-postgres program works with transactions, parameters and a login fixed to one tenant', () =>
    undisturbed(async () => {
      const fixed = await readLogin(cluster, namespace, keyspace, 'acme_app');
      const client = await connect(eu, fixed);
      try {
        await client.query('begin');
        await client.query(
          'insert into products (tenant_id, sku, name, price_cents, currency) values ($1, $2, $3, $4, $5)',
          [tenant, 'by-node', 'Node', 5, 'EUR'],
        );
        const mine = await client.query('select count(*)::int as n from products');
        await client.query('rollback');
        assert.ok(Number(mine.rows[0].n) >= 1);
        const others = await client
          .query('select count(*)::int as n from products where tenant_id <> $1', [tenant])
          .catch((error: { code: string }) => error);
        assert.ok('code' in others || others.rows[0].n === 0, 'rows of another tenant were seen');
      } finally {
        await client.end();
      }
    }));

  const refused = [
    { name: 'an unknown tenant', sql: "/* tenant='nobody-knows' */ select * from products", code: 'MD002' },
    { name: 'tenant tables with no tenant', sql: 'select * from products', code: 'MD003' },
    {
      name: 'a level that there is not',
      sql: `/* tenant='${tenant}',consistency='sequential' */ select * from products`,
      code: '22023',
    },
    { name: 'a syntax error', sql: 'selec 1', code: '42601' },
  ];
  for (const { name, sql, code } of refused) {
    test(`${name} is refused with ${code}, and the session goes on`, async () => {
      const client = await connect(eu, login);
      try {
        await assert.rejects(client.query(sql), (error: { code?: string }) => {
          assert.equal(error.code, code);
          return true;
        });
        assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
      } finally {
        await client.end();
      }
    });
  }

  test('a wrong password is refused with 28P01', async () => {
    await assert.rejects(connect(eu, { ...login, password: 'wrong' }), { code: '28P01' });
  });
}
