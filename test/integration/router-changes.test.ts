/** The router while the world changes around it: roles, passwords, certificates, members that go, authority that moves. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import type pg from 'pg';
import { pino } from 'pino';
import { run } from '#cluster/process.ts';
import { makeVerifier } from '#operator/passwords/verifier.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';
import { applyRole, dropRole } from '#operator/postgres/roles.ts';
import { Directory } from '#router/map/directory.ts';
import { FileMapSource } from '#router/map/file-source.ts';
import type { ClusterMap } from '#router/map/map.ts';
import { TlsFiles } from '#router/tls.ts';
import { sslRequest } from '#router/wire/startup.ts';
import { waitFor } from './router-assertions.ts';
import { patientTimes, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;
const primaries = ['one-eu-0', 'two-us-0'];

before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('ap', {
    times: { ...patientTimes, catalogueRefreshMs: 300, unknownUserMs: 200 },
    hold: { transactions: 100, bytes: 1024 * 1024, ms: 4_000 },
  });
  await router.with('acme_app', (client) =>
    client.query("insert into accounts (tenant_id, id) values ('acme', 1), ('acme', 2)"),
  );
  await keyspace.caughtUp();
});
after(() => keyspace?.stop());

const parameters = { salt: Buffer.alloc(16, 9), iterations: 4096 };

async function onEveryShard(use: (client: pg.Client) => Promise<void>): Promise<void> {
  await Promise.all(primaries.map((member) => keyspace.asOperator(member, use)));
}

async function logsIn(user: string, password: string): Promise<boolean> {
  return router
    .with(user, () => Promise.resolve(true), { password })
    .catch((error: unknown) => {
      assert.equal((error as { code?: string }).code, '28P01', String(error));
      return false;
    });
}

/** What a router in the follower's region knows of roles, without the router. */
async function directoryOf({ folder, mapPath }: RouterKeyspace): Promise<Directory> {
  const aborter = new AbortController();
  const tls = new TlsFiles(folder);
  await tls.start(() => undefined, aborter.signal);
  let map: ClusterMap | undefined;
  await new FileMapSource(mapPath, 100).start((read) => {
    map = read;
  }, aborter.signal);
  aborter.abort();
  return new Directory({
    map: () => map,
    clientContext: () => tls.contexts.client,
    region: 'ap',
    refreshMs: 60_000,
    unknownUserMs: 60_000,
    timeoutMs: 20_000,
    log: pino({ level: 'silent' }),
  });
}

async function servedBy(client: pg.Client): Promise<string> {
  await client.query('select count(*) from accounts');
  const { rows } = await client.query<Record<string, string>>('show meridian.served_by');
  return /member=(\S+)/.exec(rows[0]?.['meridian.served_by'] ?? '')?.[1] ?? '';
}

describe('roles', () => {
  test('a role that was just made can log in a moment later', async () => {
    const verifier = await makeVerifier('first', parameters);
    assert.equal(await logsIn('fresh_app', 'first'), false);
    await sleep(250);
    await onEveryShard((client) => applyRole(client, { name: 'fresh_app', verifier, tenants: ['acme'] }));
    await waitFor(() => logsIn('fresh_app', 'first'));
    await router.with('fresh_app', (client) => client.query('select * from accounts'), { password: 'first' });
  });

  test('that are declared are known to a new router before it is ready', async () => {
    const map = keyspace.map();
    const verifier = await makeVerifier('soon', parameters);
    await keyspace.writeMap(keyspace.map({ roles: ['acme_app', 'soon_app'] }));
    const starting = keyspace.router('us', { times: { ...patientTimes, catalogueRefreshMs: 600_000 } });
    let isReady = false;
    void starting.then(() => {
      isReady = true;
    });
    await sleep(1_200);
    assert.equal(isReady, false);
    await onEveryShard((client) => applyRole(client, { name: 'soon_app', verifier, tenants: ['acme'] }));
    const started = await starting;
    await started.with('soon_app', (client) => client.query('select * from accounts'), { password: 'soon' });
    await keyspace.writeMap(map);
  });

  test('an unknown one is answered without waiting for a member', async () => {
    const directory = await directoryOf(keyspace);
    await directory.refresh();
    let asked = 0;
    directory.refresh = () => {
      asked += 1;
      return new Promise(() => undefined);
    };
    const answer = (): Promise<unknown> =>
      Promise.race([directory.login('nobody_at_all'), sleep(10_000, 'it waits', { ref: false })]);
    assert.equal(await answer(), undefined);
    assert.equal(asked, 1, 'it is looked for behind the answer');
    assert.equal(await answer(), undefined);
    assert.equal(asked, 1, 'but not each time');
  });

  test('are read at a primary even where a follower is nearer, which may be behind', async () => {
    const directory = await directoryOf(keyspace);
    await keyspace.asOperator('one-ap-0', (client) => client.query('select pg_wal_replay_pause()'));
    try {
      const verifier = await makeVerifier('late', parameters);
      await onEveryShard((client) => applyRole(client, { name: 'late_app', verifier, tenants: ['acme'] }));
      assert.ok(await directory.refresh());
      assert.equal(directory.current('late_app')?.fixedTenant, 'acme');
    } finally {
      await keyspace.asOperator('one-ap-0', (client) => client.query('select pg_wal_replay_resume()'));
    }
  });

  test('during a rotation both passwords are accepted, and afterwards the new one only', async () => {
    const [first, second] = await Promise.all(['first', 'second'].map((one) => makeVerifier(one, parameters)));
    const role = { name: 'fresh_app', tenants: ['acme'], verifier: second as string };
    await onEveryShard((client) => applyRole(client, { ...role, previousVerifier: first as string }));
    await waitFor(() => logsIn('fresh_app', 'second'));
    assert.ok(await logsIn('fresh_app', 'first'));
    assert.ok(!(await logsIn('fresh_app', 'third')));
    await onEveryShard((client) => applyRole(client, role));
    await waitFor(async () => !(await logsIn('fresh_app', 'first')));
    assert.ok(await logsIn('fresh_app', 'second'));
  });

  test('what a role may act for follows the Keyspace in sessions that are open', async () => {
    await router.with('pair_app', async (client) => {
      const read = (): Promise<unknown> => client.query("select * from accounts where tenant_id = 'cord'");
      await assert.rejects(read(), { code: '42501' });
      const verifier = await makeVerifier('correct horse', { salt: Buffer.alloc(16, 7), iterations: 4096 });
      await onEveryShard((operator) =>
        applyRole(operator, { name: 'pair_app', verifier, tenants: ['acme', 'bolt', 'cord'] }),
      );
      await waitFor(() =>
        read().then(
          () => true,
          () => false,
        ),
      );
    });
  });
});

describe('a role that comes to act for others', () => {
  const verifierOf = () => makeVerifier('correct horse', { salt: Buffer.alloc(16, 7), iterations: 4096 });
  const give = async (name: string, ...tenants: string[]): Promise<void> => {
    const verifier = await verifierOf();
    await onEveryShard((client) => applyRole(client, { name, verifier, tenants }));
  };
  const tenantSeen = async (client: pg.Client): Promise<string> => {
    const { rows } = await client.query<{ tenant_id: string }>({
      name: 'seen',
      text: 'select distinct tenant_id from accounts',
    });
    return rows.map((row) => row.tenant_id).join();
  };
  before(() =>
    router.with('any_app', (client) => client.query("insert into accounts (tenant_id, id) values ('cord', 1)")),
  );

  test('ends the sessions that chose a tenant it has lost, idle and in a transaction, before another’s rows are seen', async () => {
    await give('moved_app', 'acme', 'bolt');
    await waitFor(() => logsIn('moved_app', 'correct horse'));
    const [idle, within] = [await router.connect('moved_app'), await router.connect('moved_app')];
    for (const client of [idle, within]) await client.query("set meridian.tenant = 'acme'");
    assert.equal(await tenantSeen(idle), 'acme');
    await within.query('begin');
    assert.equal(await tenantSeen(within), 'acme');
    await give('moved_app', 'cord');
    await waitFor(() =>
      router.with('moved_app', async (client) => (await tenantSeen(client).catch(() => '')) === 'cord'),
    );
    for (const client of [idle, within])
      await assert.rejects(tenantSeen(client), (error: { code: string }) => error.code === '57P01');
    await router.with('moved_app', async (client) => {
      const { rows } = await client.query<Record<string, string>>('show meridian.tenant');
      assert.equal(rows[0]?.['meridian.tenant'], 'cord');
    });
  });

  test('never acts for another tenant than its session chose, also where the router has not heard of the change yet', async () => {
    await give('slow_app', 'acme', 'bolt');
    const unaware = await keyspace.router('eu', { times: { ...patientTimes, catalogueRefreshMs: 600_000 } });
    const client = await unaware.connect('slow_app');
    await client.query("set meridian.tenant = 'acme'");
    assert.equal(await tenantSeen(client), 'acme');
    await give('slow_app', 'cord');
    for (let round = 0; round < 5; round++)
      await assert.rejects(client.query('select distinct tenant_id from accounts'));
    await assert.rejects(client.query('update accounts set balance = 7'));
  });

  test('is served by new backends, whose plans do not hold the tenant of before', async () => {
    await give('turned_app', 'acme');
    await waitFor(() => logsIn('turned_app', 'correct horse'));
    const before = await router.connect('turned_app');
    for (let round = 0; round < 8; round++) assert.equal(await tenantSeen(before), 'acme');
    await give('turned_app', 'cord');
    await waitFor(() =>
      tenantSeen(before).then(
        () => false,
        (error: { code: string }) => error.code === '57P01',
      ),
    );
    await router.with('turned_app', async (client) => {
      for (let round = 0; round < 8; round++) assert.equal(await tenantSeen(client), 'cord');
    });
  });

  test('and one that is gone has no sessions left', async () => {
    await give('going_app', 'acme');
    await waitFor(() => logsIn('going_app', 'correct horse'));
    const client = await router.connect('going_app');
    await client.query('select 1');
    await onEveryShard((operator) => dropRole(operator, 'going_app'));
    await waitFor(() =>
      client.query('show meridian.tenant').then(
        () => false,
        (error: { code: string }) => error.code === '57P01',
      ),
    );
  });
});

test('a renewed certificate is shown to new clients, and those that are connected go on', async () => {
  const fingerprint = async (): Promise<string> => {
    const tcp = await RawClient.tcp(router.port);
    tcp.write(sslRequest);
    await new Promise((resolve) => tcp.once('data', resolve));
    const secured: TLSSocket = connect({ socket: tcp, ca: keyspace.ca.bundle, servername: 'localhost' });
    await new Promise((resolve, reject) => secured.once('secureConnect', resolve).once('error', reject));
    const certificate: PeerCertificate = secured.getPeerCertificate();
    secured.destroy();
    return certificate.fingerprint256;
  };
  const client = await router.connect('acme_app');
  const old = await fingerprint();
  const renewed = await issueCertificate(
    keyspace.ca,
    { identity: { kind: 'router', namespace: 'test', keyspace: 'shop' }, dnsNames: ['localhost'], ipAddresses: [] },
    new Date(),
  );
  await writeFile(join(keyspace.folder, 'tls.key'), renewed.privateKey);
  await writeFile(join(keyspace.folder, 'tls.crt'), renewed.certificate);
  await waitFor(async () => (await fingerprint()) !== old);
  assert.equal((await client.query('select 1')).rowCount, 1);
  await client.end();
  // New backends show it, too: this role has none yet.
  await router.with('bolt_app', (other) => other.query('select 1'));
});

test('a transaction that waits too long for a backend is told so, and its session goes on', async () => {
  const impatient = await keyspace.router('eu', { times: { ...patientTimes, waitMs: 3_000 } });
  const holders = await Promise.all(Array.from({ length: 5 }, () => impatient.connect('acme_app')));
  for (const holder of holders) {
    await holder.query('begin');
    await holder.query('select count(*) from accounts');
  }
  await impatient.with('acme_app', async (client) => {
    await assert.rejects(client.query('select count(*) from accounts'), { code: '53300' });
    for (const holder of holders) await holder.query('commit');
    assert.equal((await client.query('select * from accounts')).rowCount, 2);
  });
  for (const holder of holders) await holder.end();
});

describe('members that go', () => {
  test('eventual reads go on from the primary while the follower is away, and return to it', async () => {
    await router.with('acme_app', async (client) => {
      await client.query("set meridian.consistency = 'eventual'");
      await waitFor(async () => (await servedBy(client)) === 'one-ap-0');
      const id = keyspace.member('one-ap-0').container.getId();
      await run(['docker', 'kill', id]);
      await waitFor(async () => (await servedBy(client).catch(() => '')) === 'one-eu-0');
      for (let round = 0; round < 5; round++) assert.equal(await servedBy(client), 'one-eu-0');
      await run(['docker', 'start', id]);
      const inspect = ['docker', 'inspect', '-f', '{{.NetworkSettings.Networks.bridge.IPAddress}}', id];
      await keyspace.moveMember('one-ap-0', (await run(inspect)).trim());
      await waitFor(async () => (await servedBy(client).catch(() => '')) === 'one-ap-0');
    });
  });

  test('a shard whose primary is away answers 57P03, while the other serves on', async () => {
    const two = keyspace.map();
    await keyspace.writeMap({
      ...two,
      members: two.members.map((member) =>
        member.name === 'two-us-0' ? { ...member, address: '127.0.0.1', port: 1 } : member,
      ),
    });
    await router.with('bolt_app', async (client) => {
      await waitFor(() =>
        client.query('select * from accounts').then(
          () => false,
          (error: { code: string }) => error.code === '57P03',
        ),
      );
      assert.equal((await client.query('select 1')).rowCount, 1);
    });
    await router.with('acme_app', (client) => client.query('select * from accounts'));
    await keyspace.writeMap(two);
    await router.with('bolt_app', (client) =>
      waitFor(() =>
        client.query('select * from accounts').then(
          () => true,
          () => false,
        ),
      ),
    );
  });
});

describe('authority that moves', () => {
  test('statements follow the higher epoch, never a lower one, and backends of before are not used again', async () => {
    await keyspace.caughtUp();
    await keyspace.asOperator('one-ap-0', (client) => client.query('select pg_promote()'));
    const map = keyspace.map();
    await router.with('acme_app', async (client) => {
      assert.equal(await servedBy(client), 'one-eu-0');
      const moved = map.shards.map((shard) =>
        shard.name === 'one' ? { ...shard, epoch: 2, primary: 'one-ap-0' } : shard,
      );
      await keyspace.writeMap({ ...map, shards: moved });
      await waitFor(async () => (await servedBy(client).catch(() => '')) === 'one-ap-0');
      await client.query("insert into accounts (tenant_id, id) values ('acme', 50)");
      await waitFor(async () => (await keyspace.backends('one-eu-0', "usename = 'acme_app'")) === 0);
      await keyspace.writeMapOnly(map);
      await sleep(400);
      assert.equal(await servedBy(client), 'one-ap-0');
    });
  });
});
