/**
 * Changes and a router's end under clients that never pause: nobody is dropped by a change of what the router goes by, and when it ends,
 * what was begun is ended and what was answered has happened.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { issueCertificate } from '#operator/pki/leaf.ts';
import type { MapFile } from '#router/map/file-source.ts';
import { codeOf, waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace } from './router-keyspace.ts';
import { RouterProcess } from './router-process.ts';

const [port, httpPort] = [26_436, 26_437];
const admins = { ops: 'full' } as const;
let keyspace: RouterKeyspace;
let program: RouterProcess;

before(async () => {
  keyspace = await RouterKeyspace.start();
  await keyspace.letIn('ops');
  await keyspace.writeMap(keyspace.map({ admins }));
  program = await RouterProcess.start(keyspace, { port, httpPort, environment: { MERIDIAN_WORKERS: '2' } });
});
after(async () => {
  program?.kill();
  await keyspace?.stop();
});

async function connect(user: string, more: pg.ClientConfig = {}): Promise<pg.Client> {
  const ssl = { ca: keyspace.ca.bundle };
  const client = new pg.Client({ host: 'localhost', port, user, password, database, ssl, ...more });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** Clients that read, write and hold transactions until they are told to stop, or fail. */
class Load {
  /** Inserts that were answered. */
  readonly done: number[] = [];
  /** What went wrong, and whether within a transaction. */
  readonly failures: { readonly error: unknown; readonly isWithin: boolean }[] = [];
  #next: number;
  #isStopped = false;
  readonly #running: Promise<void>[] = [];

  constructor(firstId: number) {
    this.#next = firstId;
  }

  async start(clients: number): Promise<void> {
    const roles = ['acme_app', 'any_app', 'bolt_app'];
    const connected = await Promise.all(
      Array.from({ length: clients }, (_, index) => connect(roles[index % roles.length] as string)),
    );
    for (const [index, client] of connected.entries())
      this.#running.push(this.#run(client, index % roles.length === 2 ? 'bolt' : 'acme'));
  }

  async #run(client: pg.Client, tenant: string): Promise<void> {
    let isWithin = false;
    const insert = async (): Promise<number> => {
      this.#next += 1;
      const id = this.#next;
      await client.query({
        name: 'insert',
        text: 'insert into accounts (tenant_id, id) values ($1, $2)',
        values: [tenant, id],
      });
      return id;
    };
    try {
      for (let turn = 0; !this.#isStopped; turn++) {
        await client.query(`select balance from accounts where tenant_id = '${tenant}' and id = ${turn}`);
        await client.query({
          name: 'read',
          text: 'select balance from accounts where tenant_id = $1 and id = $2',
          values: [tenant, turn],
        });
        if (turn % 3 === 0) this.done.push(await insert());
        if (turn % 5 !== 0) continue;
        await client.query('begin');
        isWithin = true;
        const ids = [await insert(), await insert()];
        await client.query('commit');
        isWithin = false;
        this.done.push(...ids);
      }
    } catch (error) {
      this.failures.push({ error, isWithin });
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#running);
  }

  /** Everybody has failed, or ended. */
  async over(): Promise<void> {
    await Promise.all(this.#running);
  }
}

/** Ids at both shards from this one on. */
async function idsFrom(firstId: number): Promise<number[]> {
  const found: number[] = [];
  for (const member of ['one-eu-0', 'two-us-0'])
    await keyspace.asOperator(member, async (client) => {
      const { rows } = await client.query<{ id: string }>('select id from accounts where id > $1', [firstId]);
      found.push(...rows.map(({ id }) => Number(id)));
    });
  return found.toSorted((one, other) => one - other);
}
const sorted = (ids: readonly number[]): number[] => ids.toSorted((one, other) => one - other);

/** So much of the load has been served since. */
async function goesOn(load: Load, inserts = 20): Promise<void> {
  const before = load.done.length;
  await waitFor(async () => load.done.length >= before + inserts || load.failures.length > 0);
  assert.deepEqual(load.failures, []);
}

test('no client loses its connection, or a statement, by a change of what the router goes by', async () => {
  const load = new Load(100_000);
  await load.start(12);
  await goesOn(load);
  const admin = await connect('ops', { database: 'meridian' });
  const limits = { connections: 500, transactionsInFlight: 3, statementTimeoutMs: 60_000 };
  const base = keyspace.map({ admins });
  const changes: readonly MapFile[] = [
    keyspace.map({ admins, poolSize: 9 }),
    keyspace.map({ admins, poolSize: 2 }),
    keyspace.map({ admins, maxClients: 40 }),
    keyspace.map({ admins, roleLimits: { any_app: { connections: 100, statementsPerSecond: 100_000 } } }),
    { ...base, tenants: base.tenants.map((tenant) => ({ ...tenant, limits })) },
    { ...base, tenants: [...base.tenants, { key: 'dora', shard: 'two' }] },
    keyspace.map({ admins, consistency: { default: 'strong', rules: [{ table: 'notes', level: 'causal' }] } }),
    { ...base, proximity: {} },
    base,
  ];
  for (const map of changes) {
    await keyspace.writeMap(map);
    await admin.query('RELOAD');
    await goesOn(load);
  }
  await admin.query('RECONNECT');
  await goesOn(load);
  for (let round = 0; round < 3; round++) {
    await admin.query('PAUSE');
    await sleep(50);
    await admin.query('RESUME');
    await goesOn(load);
  }
  const renewed = await issueCertificate(
    keyspace.ca,
    {
      identity: { kind: 'router', namespace: 'test', keyspace: 'shop' },
      dnsNames: ['localhost'],
      ipAddresses: ['127.0.0.1'],
    },
    new Date(),
  );
  await writeFile(join(keyspace.folder, 'tls.key'), renewed.privateKey);
  await writeFile(join(keyspace.folder, 'tls.crt'), renewed.certificate);
  await waitFor(async () => program.log.includes('certificates reloaded'));
  await admin.query('RECONNECT');
  await goesOn(load);
  await load.stop();
  assert.deepEqual(load.failures, []);
  assert.deepEqual(await idsFrom(100_000), sorted(load.done));
  await admin.end();
});

test('SIGTERM lets every transaction end, and nothing that was not answered has happened', async () => {
  const load = new Load(200_000);
  await load.start(12);
  await goesOn(load);
  program.terminate();
  await load.over();
  assert.equal(await program.ended(), 0, program.log);
  assert.equal(load.failures.length, 12);
  // The client may have been about to say something: then its socket says that nobody listens, and that is all.
  const ends = new Set([
    '57P01',
    'ECONNRESET',
    'EPIPE',
    'Error: Connection terminated unexpectedly',
    'Error: Client has encountered a connection error and is not queryable',
  ]);
  for (const { error, isWithin } of load.failures) {
    assert.ok(!isWithin, `within a transaction: ${codeOf(error)}`);
    assert.ok(ends.has(codeOf(error)), codeOf(error));
  }
  assert.deepEqual(await idsFrom(200_000), sorted(load.done));
});
