/**
 * What the routers' people see on the cluster, beyond what applications do: roles of the admin database, a certificate that is asked
 * for, a limit and an end of a role, a cancel that comes to another replica, PAUSE at one of two, and a roll-out under open connections.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import pg from 'pg';
import type { Cluster } from '#cluster/cluster.ts';
import { CommandError } from '#cluster/process.ts';
import { labels, roleSecretName, routerName } from '#core/names.ts';
import { cancelRequest } from '#router/wire/startup.ts';
import { connect, type Login, type RouterEndpoint, readLogin, routerEndpoint } from '../../demo/application.ts';
import { waitUntilReady } from '../../demo/installation.ts';

const keyspace = 'shop';
const tenant = 'acme';
const region = 'eu';
const patienceMs = 240_000;
const roles = [
  { name: 'ops', admin: 'full' },
  { name: 'watch', admin: 'stats' },
  { name: 'cert_app', tenants: [tenant], clientCertificate: true },
  { name: 'past_app', tenants: [tenant], validUntil: '2020-01-31T12:00:00Z' },
  { name: 'few_app', tenants: [tenant], limits: { connections: 2 } },
];

interface KeyspaceSpec {
  readonly roles: readonly { readonly name: string }[];
  readonly routers: { readonly regions: readonly { readonly region: string }[] };
}

interface PodObject {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string };
  readonly status: {
    readonly podIP: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

const codeOf = (error: unknown): string | undefined => (error as { readonly code?: string }).code;

export function routers(clusterOf: () => Cluster, namespace: string): void {
  let cluster: Cluster;
  let service: RouterEndpoint;
  let login: Login;

  const kubectl = (...args: string[]): Promise<string> => cluster.kubectl(['-n', namespace, ...args]);
  const spec = async (): Promise<KeyspaceSpec> =>
    (JSON.parse(await kubectl('get', 'keyspace', keyspace, '-o', 'json')) as { spec: KeyspaceSpec }).spec;
  const patch = (changed: object): Promise<string> =>
    kubectl('patch', 'keyspace', keyspace, '--type=merge', '-p', JSON.stringify({ spec: changed }));
  const patchRegion = async (changed: object): Promise<string> => {
    const { regions } = (await spec()).routers;
    return patch({
      routers: { regions: regions.map((each) => (each.region === region ? { ...each, ...changed } : each)) },
    });
  };

  /** Ready and not on their way out. */
  async function pods(): Promise<readonly RouterEndpoint[]> {
    const selector = `${labels.component}=router,${labels.keyspace}=${keyspace},${labels.region}=${region}`;
    const { items } = JSON.parse(await kubectl('get', 'pods', '-l', selector, '-o', 'json')) as {
      items: readonly PodObject[];
    };
    return items
      .filter(
        ({ metadata, status }) =>
          metadata.deletionTimestamp === undefined &&
          status.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true,
      )
      .map(({ status }) => ({ region, host: service.host, address: status.podIP }));
  }

  async function twoPods(): Promise<readonly [RouterEndpoint, RouterEndpoint]> {
    for (const giveUpAt = performance.now() + patienceMs; ; await sleep(500)) {
      const [one, other, ...rest] = await pods();
      if (one !== undefined && other !== undefined && rest.length === 0) return [one, other];
      assert.ok(performance.now() < giveUpAt, 'there are no two ready routers');
    }
  }

  /** At the admin database of one router, as a person would, in a pod that has psql and the keyspace's CA. */
  async function psql(as: Login, pod: RouterEndpoint, ...commands: string[]): Promise<string> {
    const conninfo = `host=${pod.host} hostaddr=${pod.address} dbname=meridian user=${as.user} password=${as.password} sslmode=verify-full sslrootcert=/etc/meridian/tls/ca.crt`;
    const each = commands.flatMap((command) => ['-c', command]);
    return kubectl(
      'exec',
      'shop-a-eu-0',
      '-c',
      'postgres',
      '--',
      'psql',
      conninfo,
      '-XAt',
      '-P',
      'tuples_only=off',
      ...each,
    );
  }

  before(async () => {
    cluster = clusterOf();
    service = await routerEndpoint(cluster, namespace, keyspace, region);
    const present = await spec();
    const others = present.roles.filter(({ name }) => roles.every((role) => role.name !== name));
    await patch({ roles: [...others, ...roles] });
    await patchRegion({ replicas: 2 });
    login = await readLogin(cluster, namespace, keyspace, 'acme_app');
    await twoPods();
    await waitUntilReady(cluster, namespace, patienceMs);
  });

  /** A role that was just made gets in a moment later. */
  async function letIn(role: string, endpoint: RouterEndpoint): Promise<void> {
    const database = 'meridian';
    const as = await readLogin(cluster, namespace, keyspace, role);
    for (const giveUpAt = performance.now() + 60_000; ; await sleep(500)) {
      const client = await connect(endpoint, { ...as, database }).catch((error: unknown) => error);
      if (client instanceof pg.Client) return client.end();
      assert.ok(codeOf(client) === '28P01' && performance.now() < giveUpAt, inspect(client));
    }
  }

  test('psql shows what there is at the admin database of each router; who may only look can not act, an application not even look', async () => {
    const ops = await readLogin(cluster, namespace, keyspace, 'ops');
    const watch = await readLogin(cluster, namespace, keyspace, 'watch');
    for (const pod of await twoPods()) {
      for (const role of ['ops', 'watch']) await letIn(role, pod);
      const client = await connect(pod, login);
      try {
        await client.query('begin');
        await client.query('select count(*) from products');
        const [pools = '', clients = '', servers = ''] = await Promise.all(
          ['SHOW POOLS', 'SHOW CLIENTS', 'SHOW SERVERS'].map((command) => psql(watch, pod, command)),
        );
        assert.match(pools, /^database\|user\|cl_active\|cl_waiting\|/);
        assert.match(pools, /^shop\|acme_app\|1\|0\|/m);
        assert.match(clients, /^C\|acme_app\|shop\|none\|active\|/m);
        assert.match(servers, /^S\|acme_app\|shop\|none\|active\|/m);
        await client.query('rollback');
      } finally {
        await client.end();
      }
      for (const what of ['STATS', 'ROUTES', 'TENANTS', 'MEMBERS', 'USERS', 'DATABASES', 'LISTS', 'CONFIG', 'STATE'])
        assert.ok((await psql(ops, pod, `SHOW ${what}`)).split('\n').length > 2, what);
      await assert.rejects(
        psql(watch, pod, 'PAUSE'),
        (error) => error instanceof CommandError && /42501|permission|may/i.test(error.output),
      );
    }
    await assert.rejects(connect(service, { ...login, database: 'meridian' }), { code: '42501' });
  });

  test('PAUSE holds the statements of one router, not of the other, until RESUME', async () => {
    const ops = await readLogin(cluster, namespace, keyspace, 'ops');
    const [paused, other] = await twoPods();
    const [held, free] = [await connect(paused, login), await connect(other, login)];
    try {
      await held.query('select count(*) from products');
      await psql(ops, paused, 'PAUSE');
      let isAnswered = false;
      const answer = held.query('select count(*)::int as n from products').then(({ rows }) => {
        isAnswered = true;
        return rows[0] as { n: number };
      });
      await free.query('select count(*) from products');
      await sleep(500);
      assert.equal(isAnswered, false, 'a paused router served a statement');
      await psql(ops, paused, 'RESUME');
      assert.ok((await answer).n >= 0);
    } finally {
      await psql(ops, paused, 'RESUME').catch(() => undefined);
      await Promise.all([held.end(), free.end()]);
    }
  });

  test('a role with a certificate gets in by what its Secret holds, and not by its password alone', async () => {
    const data = (
      JSON.parse(await kubectl('get', 'secret', roleSecretName(keyspace, 'cert_app'), '-o', 'json')) as {
        data: Record<string, string>;
      }
    ).data;
    const text = (name: string): string => Buffer.from(data[name] ?? '', 'base64').toString('utf8');
    const as = await readLogin(cluster, namespace, keyspace, 'cert_app');
    const open = (certificate: object): pg.Client =>
      new pg.Client({
        host: service.address,
        port: 5432,
        user: as.user,
        password: as.password,
        database: as.database,
        ssl: { ca: as.ca, servername: service.host, rejectUnauthorized: true, ...certificate },
      });
    for (const giveUpAt = performance.now() + 60_000; ; await sleep(500)) {
      const client = open({ cert: text('tls.crt'), key: text('tls.key') });
      const error = await client.connect().then(
        () => undefined,
        (problem: unknown) => problem,
      );
      if (error !== undefined) {
        assert.ok(codeOf(error) === '28P01' && performance.now() < giveUpAt, inspect(error));
        continue;
      }
      assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
      await client.end();
      break;
    }
    await assert.rejects(open({}).connect(), { code: '28000' });
  });

  test('a role past its end is refused, and one with a limit of connections has no more at a router', async () => {
    const past = await readLogin(cluster, namespace, keyspace, 'past_app');
    await assert.rejects(connect(service, past), { code: '28P01' });
    const few = await readLogin(cluster, namespace, keyspace, 'few_app');
    const [pod] = await twoPods();
    const open: pg.Client[] = [];
    try {
      for (let n = 0; n < 2; n += 1) open.push(await connect(pod, few));
      await assert.rejects(connect(pod, few), { code: '53300' });
    } finally {
      await Promise.all(open.map((client) => client.end()));
    }
  });

  test('a cancel that comes to the other replica ends the statement', async () => {
    const [one, other] = await twoPods();
    const client = await connect(one, login);
    try {
      const answer = client.query('select pg_sleep(60)').then(
        () => 'it ended',
        (error: unknown) => codeOf(error),
      );
      const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
      const secret = Buffer.alloc(4);
      secret.writeInt32BE(secretKey);
      // The statement may still be on its way when the first of them arrives.
      let outcome: string | undefined;
      for (const giveUpAt = performance.now() + 30_000; outcome === undefined; ) {
        assert.ok(performance.now() < giveUpAt, 'the cancel did not get through');
        const socket = connectTcp(5432, other.address);
        await once(socket, 'connect');
        socket.end(cancelRequest(processID, secret));
        await once(socket.resume(), 'close');
        outcome = await Promise.race([answer, sleep(300, undefined)]);
      }
      assert.equal(outcome, '57014');
      assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
    } finally {
      await client.end();
    }
  });

  test('what concerns clients only is taken up by the routers that run: no pod goes, no connection ends', async () => {
    const before = await twoPods();
    const client = await connect(before[0], login);
    try {
      await patch({ routers: { maxClients: 150, poolSize: 9, idleSessionTimeoutMs: 600_000 } });
      const ops = await readLogin(cluster, namespace, keyspace, 'ops');
      for (const giveUpAt = performance.now() + 60_000; ; await sleep(500)) {
        if (/\|150\|/.test(await psql(ops, before[0], 'SHOW DATABASES'))) break;
        assert.ok(performance.now() < giveUpAt, 'the change did not get to the router');
      }
      await client.query('select count(*) from products');
      assert.deepEqual(
        (await twoPods()).map(({ address }) => address).toSorted(),
        before.map(({ address }) => address).toSorted(),
      );
    } finally {
      await client.end();
    }
  });

  test('a roll-out of the routers cuts no transaction, loses no statement that it acknowledged, and always lets clients in', async () => {
    const before = new Set((await twoPods()).map(({ address }) => address));
    const acknowledged: string[] = [];
    const problems: string[] = [];
    let moved = 0;
    const over = new AbortController();

    async function opened(): Promise<pg.Client> {
      const client = await connect(service, login);
      // The next statement will say so.
      client.on('error', () => {});
      return client;
    }

    async function client(number: number): Promise<void> {
      let session: pg.Client | undefined;
      for (let n = 0; !over.signal.aborted; n += 1) {
        const sku = `roll-${number}-${n}`;
        let stage = 'connecting';
        try {
          session ??= await opened();
          stage = 'between transactions';
          await session.query('begin');
          stage = 'in a transaction';
          await session.query(
            "insert into products (tenant_id, sku, name, price_cents, currency) values ($1, $2, 'x', 1, 'EUR')",
            [tenant, sku],
          );
          await sleep(50);
          await session.query('commit');
          acknowledged.push(sku);
          stage = 'between transactions';
          await sleep(20);
        } catch (error) {
          // Between them it is told to go: nothing of the next one was run.
          if (stage === 'between transactions') moved += 1;
          else problems.push(`${stage}: ${codeOf(error) ?? ''} ${String(error)}`);
          await session?.end().catch(() => undefined);
          session = undefined;
        }
      }
      await session?.end();
    }

    const clients = Array.from({ length: 8 }, (_, number) => client(number));
    try {
      await patchRegion({ workers: 2 });
      await kubectl('rollout', 'status', `deployment/${routerName(keyspace, region)}`, '--timeout=240s');
      for (const giveUpAt = performance.now() + patienceMs; ; await sleep(500)) {
        if ((await twoPods()).every(({ address }) => !before.has(address))) break;
        assert.ok(performance.now() < giveUpAt, 'old routers are still there');
      }
      // The last of the old ones drains.
      await sleep(8_000);
    } finally {
      over.abort();
      await Promise.all(clients);
    }
    const ops = await readLogin(cluster, namespace, keyspace, 'ops');
    for (const pod of await twoPods()) assert.match(await psql(ops, pod, 'SHOW CONFIG'), /^workers\|2\|/m);
    assert.deepEqual(problems, []);
    assert.ok(moved > 0, 'no client was told to move: nothing was tried');
    const reader = await connect(service, login);
    const { rows } = await reader.query<{ sku: string }>("select sku from products where sku like 'roll-%'");
    await reader.end();
    assert.deepEqual(rows.map(({ sku }) => sku).toSorted(), acknowledged.toSorted());
  });
}
