/** The router before real members: agents, leases, fences and promotions as they are, with clients at work all the while. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import type { Fenced } from '#core/protocol/authority.ts';
import { makeVerifier } from '#operator/passwords/verifier.ts';
import { runMigrations } from '#operator/postgres/migrations.ts';
import { installOwnership } from '#operator/postgres/ownership/install.ts';
import { setTenant } from '#operator/postgres/ownership/tenants.ts';
import { applyRole } from '#operator/postgres/roles.ts';
import { FileMapSource, type MapFile } from '#router/map/file-source.ts';
import { createPlanner } from '#router/plan/planner.ts';
import { TlsFiles } from '#router/tls.ts';
import { RouterWorker } from '#router/worker.ts';
import { KeyspaceFixture, type MemberFixture, type ShardFixture } from './member-fixture.ts';
import { waitFor } from './router-assertions.ts';
import { Crowd } from './router-crowd.ts';
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

/** What the API server would say; agents say the rest. */
async function writeMap(epoch: number, primary: string, target?: string): Promise<void> {
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
    shards: [{ name: shard.name, uid: shard.uid, epoch, primary, target }],
    members,
    tenants: [{ key: 'acme', shard: shard.name }],
  };
  await writeFile(join(folder, 'map.json'), JSON.stringify(map));
}

const router = {
  connect: async (user: string): Promise<pg.Client> => {
    const client = new pg.Client({
      host: 'localhost',
      port,
      user,
      password,
      database,
      ssl: { ca: keyspace.ca.bundle },
    });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  },
};

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
  await writeMap(1, 'main-eu-0');
  const tls = new TlsFiles(folder);
  await tls.start(() => undefined, aborter.signal);
  const mapFile = join(folder, 'map.json');
  worker = new RouterWorker({
    settings: {
      namespace: keyspace.namespace,
      podName: 'router-0',
      podAddress: '',
      peers: [],
      proxyFrom: [],
      keyspace: keyspace.keyspace,
      region: 'eu',
      tlsFolder: folder,
      mapFile,
      allowPlaintext: false,
      address: '127.0.0.1',
      port: 0,
      httpPort: 0,
      drainMs: 0,
      logLevel: process.env['ROUTER_LOG'] ?? 'silent',
      times: patientTimes,
      hold: { transactions: 100, bytes: 1024 * 1024, ms: 20_000 },
    },
    source: new FileMapSource(mapFile, 100),
    tls,
    planner: await createPlanner(),
    log: pino({ level: process.env['ROUTER_LOG'] ?? 'silent' }),
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

/** By timeline, then by place; one that can't be read is behind all others. */
function compared(one: Fenced, other: Fenced): number {
  const [a, b] = [one.position, other.position];
  if (a === null || b === null) return Number(a !== null) - Number(b !== null);
  const place = (lsn: string): bigint => BigInt(`0x${lsn.replace(/.*\//, '').padStart(8, '0')}`);
  const segment = (lsn: string): number => Number.parseInt(lsn, 16);
  return a.timeline - b.timeline || segment(a.lsn) - segment(b.lsn) || Number(place(a.lsn) - place(b.lsn));
}

async function idsAt(member: MemberFixture, from: number): Promise<Set<number>> {
  const client = await member.connect();
  const { rows } = await client.query<{ id: string }>('select id from accounts where id > $1', [from]);
  await client.end();
  return new Set(rows.map(({ id }) => Number(id)));
}

describe('a shard with clients at work', { timeout: 300_000 }, () => {
  test('is switched over without an error at any of them, and nothing is lost', async (context) => {
    const eu = shard.member('main-eu-0');
    const us = shard.member('main-us-0');
    const crowd = new Crowd(router, 10_000);
    context.after(() => crowd.stop());
    await waitFor(async () => crowd.acknowledged.size > 50, 60_000);
    await writeMap(1, 'main-eu-0', 'main-us-0');
    await sleep(300);
    const startedMs = performance.now();
    const { position } = await eu.fence(2, true);
    const stoppedMs = performance.now() - startedMs;
    assert.ok(position !== null);
    const ap = shard.member('main-ap-0');
    await shard.decide(us, 2, position.lsn);
    await shard.takeOver([ap]);
    const served = crowd.acknowledged.size;
    await waitFor(async () => crowd.acknowledged.size > served, 60_000);
    context.diagnostic(
      `stopped in ${stoppedMs.toFixed(0)} ms, served again after ${(performance.now() - startedMs).toFixed(0)} ms`,
    );
    await waitFor(async () => crowd.acknowledged.size > served + 50, 60_000);
    await crowd.stop();
    assert.deepEqual(crowd.errors, []);
    const found = await idsAt(us, 10_000);
    assert.deepEqual(
      [...crowd.acknowledged].filter((id) => !found.has(id)),
      [],
    );
    assert.equal(found.size, crowd.acknowledged.size);
    context.diagnostic(`the longest wait of a client: ${crowd.longestMs.toFixed(0)} ms`);
    await shard.follow(eu, { takeover: true });
  });

  test('loses its primary: clients are told the truth about what was in flight, and nothing acknowledged is lost', async (context) => {
    const us = shard.member('main-us-0');
    const ap = shard.member('main-ap-0');
    const eu = shard.member('main-eu-0');
    await Promise.all([ap, eu].map((one) => one.until('caught up', ({ upstream }) => upstream?.caughtUp === true)));
    const crowd = new Crowd(router, 20_000);
    context.after(() => crowd.stop());
    await waitFor(async () => crowd.acknowledged.size > 50, 60_000);
    await us.kill();
    const startedMs = performance.now();
    const fenced = await Promise.all([ap, eu].map(async (member) => ({ member, answer: await member.fence(3) })));
    await sleep(Math.max(...fenced.map(({ answer }) => answer.leaseRemainingMs)));
    const positions = fenced.map(({ member, answer: { position, problem } }) => ({
      of: member.name,
      position,
      problem,
    }));
    assert.ok(
      positions.every(({ position }) => position !== null),
      `not enough to choose from: ${JSON.stringify(positions)}`,
    );
    // One follower acknowledges each commit, and either may have been it: the most advanced is the one that has them all.
    const [chosen, other] = fenced.toSorted((a, b) => compared(b.answer, a.answer)).map(({ member }) => member);
    assert.ok(chosen !== undefined && other !== undefined);
    const { position } = fenced.find(({ member }) => member === chosen)?.answer ?? {};
    await shard.decide(chosen, 3, position?.lsn ?? '');
    await shard.takeOver([other]);
    const served = crowd.acknowledged.size;
    await waitFor(async () => crowd.acknowledged.size > served, 60_000);
    context.diagnostic(`served again ${(performance.now() - startedMs).toFixed(0)} ms after the kill`);
    await waitFor(async () => crowd.acknowledged.size > served + 50, 60_000);
    await crowd.stop();
    for (const error of crowd.errors) assert.match(error, /^(08006|08007|40001) /);
    const found = await idsAt(chosen, 20_000);
    assert.deepEqual(
      [...crowd.acknowledged].filter((id) => !found.has(id)),
      [],
      `acknowledged, and gone; ${chosen.name} was chosen of ${JSON.stringify(positions)}`,
    );
    const surprising = [...found].filter((id) => !crowd.acknowledged.has(id) && !crowd.unknown.has(id));
    assert.deepEqual(surprising, [], 'called undone, and there');
  });
});
