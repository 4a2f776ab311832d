/** Reads at followers before real members: positions as agents say them, and tokens that outlive the epoch they were given in. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { makeVerifier } from '#operator/passwords/verifier.ts';
import { runMigrations } from '#operator/postgres/migrations.ts';
import { installOwnership } from '#operator/postgres/ownership/install.ts';
import { setTenant } from '#operator/postgres/ownership/tenants.ts';
import { applyRole } from '#operator/postgres/roles.ts';
import { FileMapSource, type MapFile } from '#router/map/file-source.ts';
import { createPlanner } from '#router/plan/planner.ts';
import { TlsFiles } from '#router/tls.ts';
import { RouterWorker } from '#router/worker.ts';
import { KeyspaceFixture, type ShardFixture } from './member-fixture.ts';
import { waitFor } from './router-assertions.ts';
import { patientTimes } from './router-keyspace.ts';

const password = 'correct horse';
const database = 'shop';
const schema = `create table accounts (tenant_id text not null, id bigint not null, balance bigint not null default 0, primary key (tenant_id, id));
grant select, insert, update, delete on accounts to meridian_application;`;

let keyspace: KeyspaceFixture;
let shard: ShardFixture;
let folder: string;
let worker: RouterWorker;
let port: number;
const aborter = new AbortController();

/** What the API server would say; agents say the rest, and more of the epochs to come than this. */
async function writeMap(): Promise<void> {
  const members = await Promise.all(
    shard.members.map(async (one) => ({
      name: one.name,
      shard: shard.name,
      region: one.region,
      address: await one.address(),
    })),
  );
  const map: MapFile = {
    keyspace: { name: keyspace.keyspace, database },
    shards: [{ name: shard.name, uid: shard.uid, epoch: 1, primary: 'main-eu-0' }],
    members,
    tenants: [{ key: 'acme', shard: shard.name }],
  };
  await writeFile(join(folder, 'map.json'), JSON.stringify(map));
}

async function connect(options = ''): Promise<pg.Client> {
  const client = new pg.Client({
    host: 'localhost',
    port,
    user: 'acme_app',
    password,
    database,
    options,
    ssl: { ca: keyspace.ca.bundle },
  });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

async function one(client: pg.Client, sql: string): Promise<string> {
  const { rows } = await client.query<Record<string, string>>(sql);
  return Object.values(rows[0] ?? {})[0] ?? '';
}

before(async () => {
  keyspace = await KeyspaceFixture.start(database);
  shard = await keyspace.shard({
    members: [
      { name: 'main-eu-0', region: 'eu' },
      { name: 'main-us-0', region: 'us' },
      { name: 'main-ap-0', region: 'ap' },
    ],
    acknowledgements: 1,
  });
  await shard.bringUp();
  const operator = await shard.primary.connect();
  await installOwnership(operator, { tenantKey: { column: 'tenant_id', type: 'text' }, shardOrdinal: 0 });
  const run = await runMigrations(operator, [{ name: '0001-schema', sql: schema }], { referenceTables: [] });
  assert.equal(run.failure, undefined);
  const verifier = await makeVerifier(password, { salt: Buffer.alloc(16, 7), iterations: 4096 });
  await applyRole(operator, { name: 'acme_app', verifier, tenants: ['acme'] });
  await setTenant(operator, { key: 'acme', epoch: 1, state: 'active', attempt: 0 });
  await operator.end();

  folder = await mkdtemp(join(tmpdir(), 'meridian-router-'));
  const own = await keyspace.issue(keyspace.identity('router'), ['localhost']);
  await writeFile(join(folder, 'tls.crt'), own.certificate);
  await writeFile(join(folder, 'tls.key'), own.privateKey);
  await writeFile(join(folder, 'ca.crt'), keyspace.ca.bundle);
  await writeMap();
  const tls = new TlsFiles(folder);
  await tls.start(() => undefined, aborter.signal);
  const mapFile = join(folder, 'map.json');
  const log = pino({ level: process.env['ROUTER_LOG'] ?? 'silent' });
  worker = new RouterWorker({
    settings: {
      namespace: keyspace.namespace,
      podName: 'router-0',
      podAddress: '',
      peers: [],
      proxyFrom: [],
      keyspace: keyspace.keyspace,
      region: 'ap',
      tlsFolder: folder,
      mapFile,
      allowPlaintext: false,
      address: '127.0.0.1',
      port: 0,
      httpPort: 0,
      drainMs: 0,
      logLevel: 'silent',
      times: patientTimes,
      hold: { transactions: 100, bytes: 1024 * 1024, ms: 30_000 },
    },
    source: new FileMapSource(mapFile, 100),
    tls,
    planner: await createPlanner(),
    log,
  });
  port = await worker.start();
  while (!worker.isReady) await sleep(20);
});
after(async () => {
  await worker?.stop(0);
  aborter.abort();
  await keyspace?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

describe('before real members', { timeout: 300_000 }, () => {
  const causal = '-c meridian.consistency=causal -c meridian.causal_wait=5s';

  test('a session reads its own writes, mostly from followers', async (context) => {
    const client = await connect(causal);
    await client.query("insert into accounts values ('acme', 1)");
    const isByFollower = async (balance: number): Promise<boolean> => {
      assert.equal(await one(client, 'select balance from accounts where id = 1'), String(balance));
      return /role=follower/.test(await one(client, 'show meridian.served_by'));
    };
    // The first word of each agent.
    await waitFor(() => isByFollower(0));
    let atFollowers = 0;
    for (let balance = 1; balance <= 50; balance++) {
      await client.query('update accounts set balance = $1 where id = 1', [balance]);
      if (await isByFollower(balance)) atFollowers += 1;
    }
    context.diagnostic(`${atFollowers} of 50 reads by followers`);
    assert.ok(atFollowers >= 25, `${atFollowers} of 50 reads by followers`);
    await client.end();
  });

  test('a token of an epoch that has ended still means what was committed in it', async () => {
    const [writer, reader] = [await connect(), await connect(causal)];
    await writer.query("insert into accounts values ('acme', 2, 7)");
    const token = await one(writer, 'show meridian.token');
    const [eu, us, ap] = ['main-eu-0', 'main-us-0', 'main-ap-0'].map((name) => shard.member(name));
    assert.ok(eu !== undefined && us !== undefined && ap !== undefined);
    const { position } = await eu.fence(2, true);
    assert.ok(position !== null);
    await shard.decide(us, 2, position.lsn);
    await shard.takeOver([ap]);
    await reader.query(`set meridian.token = '${token}'`);
    assert.equal(await one(reader, 'select balance from accounts where id = 2'), '7');
    // And one of the new epoch is met by nobody who hasn't seen that epoch begin.
    await writer.query('update accounts set balance = 8 where id = 2');
    await reader.query(`set meridian.token = '${await one(writer, 'show meridian.token')}'`);
    assert.equal(await one(reader, 'select balance from accounts where id = 2'), '8');
    await waitFor(async () => {
      await reader.query(`set meridian.token = '${token}'`);
      assert.equal(await one(reader, 'select balance from accounts where id = 2'), '8');
      return /role=follower/.test(await one(reader, 'show meridian.served_by'));
    });
    assert.match(await one(reader, 'show meridian.served_by'), /member=main-ap-0/);
    await Promise.all([writer.end(), reader.end()]);
  });
});
