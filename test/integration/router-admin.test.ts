/** The admin database: who may use it, what it shows, and PAUSE, RESUME, RECONNECT, RELOAD under clients that go on. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type pg from 'pg';
import { setTenant } from '#operator/postgres/ownership/tenants.ts';
import { applyRole } from '#operator/postgres/roles.ts';
import { renderMetrics } from '#router/metrics.ts';
import { eventually, refused as hasCode, waitFor } from './router-assertions.ts';
import { password, passwordVerifier, RouterKeyspace, type TestRouter } from './router-keyspace.ts';

const psqlProgram = process.env['PSQL'] ?? 'psql';
const admins = { ops: 'full', watch: 'stats' } as const;
let keyspace: RouterKeyspace;
let router: TestRouter;

before(async () => {
  keyspace = await RouterKeyspace.start();
  await keyspace.letIn(...Object.keys(admins));
  await keyspace.writeMap(keyspace.map({ admins, roles: ['acme_app', 'any_app', 'ops'] }));
  router = await keyspace.router('eu');
});
after(() => keyspace?.stop());

type Row = Readonly<Record<string, string | number | null>>;
const refused = (run: () => Promise<unknown>, sqlstate: string): Promise<void> =>
  assert.rejects(run, hasCode(sqlstate));
const admin = (user = 'ops'): Promise<pg.Client> => router.connect(user, { database: 'meridian' });
async function show(client: pg.Client, what: string): Promise<Row[]> {
  return (await client.query<Row>(`SHOW ${what}`)).rows;
}
const isPaused = async (client: pg.Client): Promise<boolean> =>
  (await show(client, 'STATE')).some(({ key, value }) => key === 'paused' && value === 'yes');
const waitingAt = async (client: pg.Client): Promise<number> =>
  (await show(client, 'POOLS')).reduce((sum, { cl_waiting }) => sum + Number(cl_waiting), 0);

describe('who may use it', () => {
  test('a role that the Keyspace lets in, with its password; nobody else, and the database of the keyspace is not theirs', async () => {
    const client = await admin('watch');
    assert.equal((await show(client, 'VERSION')).length, 1);
    await client.end();
    await refused(() => router.connect('acme_app', { database: 'meridian' }), '42501');
    await refused(() => router.connect('ops', { database: 'meridian', password: 'wrong' }), '28P01');
    await refused(() => router.connect('nobody_here', { database: 'meridian' }), '28P01');
  });

  test('who may only look can not act', async () => {
    const client = await admin('watch');
    for (const command of ['PAUSE', 'RESUME', 'RELOAD', 'RECONNECT'])
      await refused(() => client.query(command), '42501');
    assert.deepEqual((await show(client, 'STATE')).find(({ key }) => key === 'paused')?.['value'], 'no');
    await client.end();
  });

  test('one whose right is taken away is sent off, and one more client than may be still gets in here', async () => {
    const client = await admin('watch');
    await keyspace.writeMap(keyspace.map({ admins: { ops: 'full' }, maxClients: 1 }));
    await waitFor(async () => {
      try {
        await client.query('SHOW STATE');
        return false;
      } catch {
        return true;
      }
    });
    const app = await router.connect('acme_app');
    await refused(() => router.connect('acme_app'), '53300');
    const other = await admin();
    assert.ok((await show(other, 'CLIENTS')).length >= 1);
    await other.end();
    await app.end();
    await keyspace.writeMap(keyspace.map({ admins }));
    await waitFor(async () => {
      try {
        await (await admin('watch')).end();
        return true;
      } catch {
        return false;
      }
    });
  });

  test('a driver that only prepares hears why not, and can go on with simple queries', async () => {
    const client = await admin();
    await refused(() => client.query('SHOW POOLS $1', [1]), '0A000');
    await refused(() => client.query('SELECT 1'), '42601');
    assert.ok((await show(client, 'LISTS')).length > 10);
    await client.end();
  });
});

describe('what it shows', () => {
  test('pools, clients, servers, tenants and members as they are', async () => {
    const app = await router.connect('any_app', { application_name: 'shop' });
    await app.query("set meridian.tenant = 'acme'");
    await app.query('begin');
    await app.query('select count(*) from accounts');
    const client = await admin();
    const pool = (await show(client, 'POOLS')).find(({ user, member }) => user === 'any_app' && member === 'one-eu-0');
    assert.deepEqual(
      [
        pool?.['database'],
        pool?.['cl_active'],
        pool?.['cl_waiting'],
        pool?.['sv_active'],
        pool?.['shard'],
        pool?.['pool_mode'],
      ],
      ['shop', 1, 0, 1, 'one', 'transaction'],
    );
    const own = (await show(client, 'CLIENTS')).find(({ application_name }) => application_name === 'shop');
    assert.deepEqual(
      [own?.['user'], own?.['state'], own?.['tenant'], own?.['member'], own?.['addr']],
      ['any_app', 'active', 'acme', 'one-eu-0', '127.0.0.1'],
    );
    assert.match(String(own?.['tls']), /^TLSv1\.[23]\//);
    const server = (await show(client, 'SERVERS')).find(({ link }) => link === own?.['ptr']);
    assert.equal(server?.['ptr'], own?.['link']);
    assert.equal(server?.['tenant'], 'acme');
    const pid = (await app.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid;
    assert.equal(server?.['remote_pid'], pid);
    const tenant = (await show(client, 'TENANTS')).find((row) => row['tenant'] === 'acme');
    assert.deepEqual([tenant?.['shard'], tenant?.['cl_active'], tenant?.['sv_active']], ['one', 1, 1]);
    // Members are what their agents' last words are, which may come late on a busy machine.
    await eventually(
      async () => (await show(client, 'MEMBERS')).map(({ member, role, state }) => [member, role, state]),
      [
        ['one-ap-0', 'follower', 'serving'],
        ['one-eu-0', 'primary', 'open'],
        ['two-us-0', 'primary', 'open'],
      ],
    );
    await eventually(
      async () =>
        (await show(client, 'ROUTES'))
          .filter(({ shard }) => shard === 'one')
          .map(({ consistency, choice, member }) => [consistency, choice, member])
          .filter(([level]) => level === 'strong' || level === 'eventual'),
      [
        ['strong', 1, 'one-eu-0'],
        ['eventual', 1, 'one-ap-0'],
        ['eventual', 2, 'one-eu-0'],
      ],
    );
    await app.query('commit');
    // The connection is emptied before it is idle.
    await eventually(async () => {
      const after = (await show(client, 'POOLS')).find(
        ({ user, member }) => user === 'any_app' && member === 'one-eu-0',
      );
      return [after?.['cl_active'], after?.['sv_active'], after?.['sv_idle']];
    }, [0, 0, 1]);
    await Promise.all([app.end(), client.end()]);
  });

  test('counts go with what is done, and Prometheus has the same words', async () => {
    const client = await admin();
    const [before] = await show(client, 'STATS');
    await router.with('acme_app', async (app) => {
      for (let index = 0; index < 10; index++) await app.query('select pg_sleep(0.01)');
      await app.query({ name: 'a', text: 'select 1' });
    });
    const [now] = await show(client, 'STATS');
    const grown = (name: string): number => Number(now?.[name]) - Number(before?.[name]);
    assert.equal(grown('total_query_count'), 11);
    assert.equal(grown('total_xact_count'), 11);
    assert.ok(grown('total_query_time') >= 100_000, `${grown('total_query_time')} µs`);
    assert.ok(grown('total_xact_time') >= grown('total_query_time') * 0.5);
    assert.ok(grown('total_received') > 0 && grown('total_sent') > 0);
    assert.deepEqual([grown('total_client_parse_count'), grown('total_bind_count')], [1, 1]);
    assert.ok(grown('total_server_parse_count') >= 1);
    const text = renderMetrics([router.worker.metrics], router.worker.gauges);
    assert.match(
      text,
      /^meridian_router_pools_sv_idle\{database="shop",user="acme_app",shard="one",member="one-eu-0"\} 1$/m,
    );
    assert.match(text, /^meridian_router_stats_total_query_count\{database="shop"\} \d+$/m);
    assert.match(text, /^meridian_router_members_reachable\{member="two-us-0",.*role="primary"\} 1$/m);
    assert.ok(!text.includes('acme"'), 'nothing of tenants');
    const names = text
      .split('\n')
      .filter((line) => line.startsWith('# TYPE'))
      .map((line) => line.split(' ')[2]);
    assert.equal(new Set(names).size, names.length, 'each name once');
    await client.end();
  });

  test('every SHOW answers, in psql as well', { skip: !hasPsql() }, async () => {
    const ca = join(keyspace.folder, 'ca.crt');
    const psql = async (...commands: string[]): Promise<string> => {
      const conninfo = `host=localhost port=${router.port} user=ops dbname=meridian sslmode=verify-full sslrootcert=${ca}`;
      const { stdout, stderr } = await promisify(execFile)(
        psqlProgram,
        ['-XAt', '-v', 'ON_ERROR_STOP=1', conninfo, ...commands.flatMap((one) => ['-c', one])],
        { env: { ...process.env, PGPASSWORD: password } },
      );
      return `${stdout}${stderr}`;
    };
    assert.match(await psql('SHOW HELP'), /SHOW HELP\|POOLS/);
    const { shows } = await import('#router/admin/command.ts');
    for (const one of shows) await psql(`SHOW ${one}`);
    assert.match(await psql('SHOW DATABASES;'), /^shop\|/m);
    assert.equal((await psql('RELOAD', 'SHOW STATE')).split('\n')[0], 'RELOAD');
    assert.equal(await psql('PAUSE shop', 'RESUME'), 'PAUSE\nRESUME\n');
    await assert.rejects(psql('PAUSE elsewhere'), /no such database: elsewhere/);
  });
});

describe('PAUSE, RESUME, RECONNECT, RELOAD', () => {
  test('PAUSE waits for what is open, lends nothing meanwhile, and nobody notices but by waiting', async () => {
    const [client, second] = [await admin(), await admin()];
    const open = await router.connect('acme_app');
    await open.query('begin');
    await open.query("insert into notes (tenant_id, body) values ('acme', 'before the pause')");
    let isThrough = false;
    const pause = client.query('PAUSE').then(() => {
      isThrough = true;
    });
    await waitFor(() => isPaused(second));
    const waiting = Array.from({ length: 8 }, async () =>
      router.with('acme_app', async (app) => (await app.query('select count(*) from notes')).rows.length),
    );
    await waitFor(async () => (await waitingAt(second)) === 8);
    assert.equal(isThrough, false);
    assert.equal((await open.query('select count(*) from notes')).rows.length, 1);
    await open.query('commit');
    await pause;
    // Postgres ends those that were closed in its own time.
    await waitFor(async () => (await keyspace.backends('one-eu-0')) === 0);
    assert.equal(await waitingAt(second), 8);
    await second.query('RESUME');
    assert.deepEqual(
      await Promise.all(waiting),
      Array.from({ length: 8 }, () => 1),
    );
    await Promise.all([client.end(), second.end(), open.end()]);
  });

  test('a PAUSE that is cancelled leaves its client in place, and what waits goes on after RESUME', async () => {
    const client = await admin();
    const open = await router.connect('acme_app');
    await open.query('begin');
    await open.query('select count(*) from notes');
    const second = await admin();
    const pause = refused(() => client.query('PAUSE'), '57014');
    await waitFor(() => isPaused(second));
    await second.query('RESUME');
    await pause;
    await open.query('commit');
    assert.equal((await open.query('select 1 as one')).rows.length, 1);
    await Promise.all([client.end(), second.end(), open.end()]);
  });

  test('statements that share connections wait for the end of a pause like all others, and none is lost', async () => {
    const client = await admin();
    const over = new AbortController();
    let done = 0;
    const work = Array.from({ length: 12 }, () =>
      router.with('any_app', async (app) => {
        while (!over.signal.aborted) {
          const { rows } = await app.query<{ tenant_id: string }>(
            "select 'acme' as tenant_id from accounts where tenant_id = 'acme' union all select 'acme'",
          );
          assert.equal(rows.at(-1)?.tenant_id, 'acme');
          done += 1;
        }
      }),
    );
    for (let round = 0; round < 3; round++) {
      await sleep(150);
      await client.query('PAUSE');
      // What clients have heard of by now doesn't say what has run.
      const ran = (): number => router.worker.metrics.get('statements_total');
      const [at, heard] = [ran(), done];
      await sleep(100);
      assert.equal(ran(), at, 'something ran in the pause');
      await client.query('RESUME');
      await waitFor(async () => done > heard + 24);
    }
    over.abort();
    await Promise.all(work);
    await client.end();
  });

  test('RECONNECT gives every session another connection, after its transaction', async () => {
    const client = await admin();
    const app = await router.connect('acme_app');
    const pid = async (): Promise<number | undefined> =>
      (await app.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid;
    await app.query('begin');
    const before = await pid();
    await client.query('RECONNECT');
    assert.equal(await pid(), before);
    await app.query('commit');
    assert.notEqual(await pid(), before);
    await Promise.all([client.end(), app.end()]);
  });

  test('RELOAD knows a new role and a new tenant at once, and says it where the map is wrong', async () => {
    const client = await admin();
    const verifier = await passwordVerifier();
    await keyspace.asOperator('one-eu-0', async (operator) => {
      await setTenant(operator, { key: 'dune', epoch: 1, state: 'active', attempt: 0 });
      await applyRole(operator, { name: 'dune_app', verifier, tenants: ['dune'] });
    });
    const map = keyspace.map({ admins });
    await keyspace.writeMap({ ...map, tenants: [...map.tenants, { key: 'dune', shard: 'one' }] });
    await client.query('RELOAD');
    await router.with('dune_app', async (app) => {
      assert.equal((await app.query('select * from accounts')).rows.length, 0);
    });
    await writeFile(keyspace.mapPath, '{ "keyspace": ');
    await refused(() => client.query('RELOAD'), '22023');
    assert.equal((await show(client, 'TENANTS')).length, 4);
    await keyspace.writeMap(keyspace.map({ admins }));
    await client.end();
  });
});

function hasPsql(): boolean {
  try {
    execFileSync(psqlProgram, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
