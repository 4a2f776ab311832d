/**
 * A keyspace for the router's tests: two shards, one of them with a follower, on plain Postgres in containers, with certificates
 * made by the operator's own code and schema, roles and tenants put in by it; and a router in this process in front.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers';
import { gateSql, prepareSql } from '#agent/member/commits-sql.ts';
import { positionSql } from '#agent/postgres/positions.ts';
import { buildImage } from '#cluster/docker/image.ts';
import type { PeerIdentity } from '#core/identity.ts';
import { bootstrapRolesSql } from '#core/roles.ts';
import { makeVerifier } from '#operator/passwords/verifier.ts';
import { type KeyspaceCa, makeCa } from '#operator/pki/authority.ts';
import type { KeyPairPem } from '#operator/pki/key-pair.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';
import { connectMember, withMember } from '#operator/postgres/connect.ts';
import { ensureDatabase } from '#operator/postgres/database.ts';
import { runMigrations } from '#operator/postgres/migrations.ts';
import { installOwnership } from '#operator/postgres/ownership/install.ts';
import { setTenant } from '#operator/postgres/ownership/tenants.ts';
import { applyRole, type RoleTenants } from '#operator/postgres/roles.ts';
import { FileMapSource, type MapFile } from '#router/map/file-source.ts';
import { createPlanner } from '#router/plan/planner.ts';
import type { Planner } from '#router/plan/types.ts';
import { defaultTimes, type RouterSettings } from '#router/settings.ts';
import { TlsFiles } from '#router/tls.ts';
import { RouterWorker } from '#router/worker.ts';
import { followMap, incarnation, TestAgent } from './router-agents.ts';

process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';

const owner = { namespace: 'test', keyspace: 'shop' };
export const database = 'shop';
export const password = 'correct horse';

/** What a test sets up and looks at takes as long as it takes on a busy machine. */
const patient = { connectTimeoutMs: 60_000 };
/** And what the router does, where no test is about that time. */
export const patientTimes: RouterSettings['times'] = {
  ...defaultTimes,
  authenticationMs: 60_000,
  waitMs: 60_000,
  connectMs: 10_000,
};

const bootstrapLines = bootstrapRolesSql.trim();

/** Application roles and what they may act for. */
export const roles: Readonly<Record<string, RoleTenants>> = {
  acme_app: { tenants: ['acme'] },
  bolt_app: { tenants: ['bolt'] },
  pair_app: { tenants: ['acme', 'bolt'] },
  any_app: { anyTenant: true },
};

/** acme and cord live on one shard, bolt on the other. */
export const tenants: Readonly<Record<string, string>> = { acme: 'one', bolt: 'two', cord: 'one' };

const schema = `
create table accounts (
  tenant_id text not null, id bigint not null, owner text not null default '', balance bigint not null default 0,
  primary key (tenant_id, id)
);
create table notes (
  tenant_id text not null, id bigint generated always as identity, body text not null, primary key (tenant_id, id)
);
create table currencies (code text primary key, name text not null);
insert into currencies values ('EUR', 'Euro'), ('USD', 'Dollar');
grant select, insert, update, delete on accounts, notes to meridian_application;
grant select on currencies to meridian_application;
grant usage on all sequences in schema public to meridian_application;
create function fail(message text) returns void language plpgsql as $$
begin raise exception using message = message, errcode = 'P0042', detail = 'the detail', hint = 'the hint', table = 'accounts'; end $$;
create function leave_setting() returns void language plpgsql as $$
begin perform set_config('app.left', 'behind', false); end $$;
`;

/** What every shard is set up with; more may follow it. */
export const firstMigration = { name: '0001-schema', sql: schema };

interface TestMember {
  readonly name: string;
  readonly shard: string;
  readonly region: string;
  readonly container: StartedTestContainer;
  readonly address: string;
}

/** Of `password`. */
export const passwordVerifier = (): Promise<string> =>
  makeVerifier(password, { salt: Buffer.alloc(16, 7), iterations: 4096 });

export class RouterKeyspace {
  readonly ca: KeyspaceCa;
  readonly folder: string;
  readonly operator: KeyPairPem;
  members: readonly TestMember[];
  readonly agents: ReadonlyMap<string, TestAgent>;
  readonly #routers: RouterWorker[] = [];
  readonly #watching: pg.Client[] = [];
  readonly #aborter = new AbortController();

  private constructor(
    ca: KeyspaceCa,
    folder: string,
    operator: KeyPairPem,
    members: readonly TestMember[],
    agents: readonly TestAgent[],
  ) {
    this.ca = ca;
    this.folder = folder;
    this.operator = operator;
    this.members = members;
    this.agents = new Map(agents.map((agent) => [agent.member, agent]));
  }

  static async start(): Promise<RouterKeyspace> {
    const context = join(import.meta.dirname, 'router-postgres');
    const image = await buildImage({
      repository: 'meridian/router-test-postgres',
      dockerfile: join(context, 'Dockerfile'),
      context,
    });
    const ca = await makeCa(owner, new Date());
    const folder = await mkdtemp(join(tmpdir(), 'meridian-router-'));
    const operator = await certificate(ca, { kind: 'operator', ...owner });
    const router = await certificate(ca, { kind: 'router', ...owner }, ['localhost'], ['127.0.0.1']);
    await writeFile(join(folder, 'tls.crt'), router.certificate);
    await writeFile(join(folder, 'tls.key'), router.privateKey);
    await writeFile(join(folder, 'ca.crt'), ca.bundle);
    const [one, two] = await Promise.all([
      startMember(image, ca, { name: 'one-eu-0', shard: 'one', region: 'eu' }),
      startMember(image, ca, { name: 'two-us-0', shard: 'two', region: 'us' }),
    ]);
    const follower = await startMember(image, ca, { name: 'one-ap-0', shard: 'one', region: 'ap' }, one.address);
    const members = [one, two, follower];
    const agents = await Promise.all(
      members.map(async ({ name, shard }) =>
        TestAgent.start(name, shard, await certificate(ca, { kind: 'member', ...owner, member: name }), ca.bundle),
      ),
    );
    const keyspace = new RouterKeyspace(ca, folder, operator, members, agents);
    try {
      await Promise.all([keyspace.#setUp('one', 0), keyspace.#setUp('two', 1)]);
      for (const agent of agents) keyspace.#watch(agent);
      await keyspace.writeMap();
      await keyspace.caughtUp();
    } catch (error) {
      // Agents that go on listening would keep the process, which has nothing to do, for ever.
      await keyspace.stop();
      throw error;
    }
    return keyspace;
  }

  /** As the operator, at a shard's primary or another member. */
  async asOperator<T>(member: string, use: (client: pg.Client) => Promise<T>, at: string = database): Promise<T> {
    const found = this.member(member);
    return withMember(
      { ...owner, member: found.name, address: found.address },
      at,
      { ca: this.ca.bundle, ...this.operator },
      use,
      patient,
    );
  }

  member(name: string): TestMember {
    const found = this.members.find((member) => member.name === name);
    if (found === undefined) throw new Error(`no member ${name}`);
    return found;
  }

  agent(member: string): TestAgent {
    const found = this.agents.get(member);
    if (found === undefined) throw new Error(`no agent of ${member}`);
    return found;
  }

  /** A member has another address, as after a restart. */
  async moveMember(name: string, address: string): Promise<void> {
    this.members = this.members.map((member) => (member.name === name ? { ...member, address } : member));
    await this.writeMap();
  }

  get mapPath(): string {
    return join(this.folder, 'map.json');
  }

  map(change: Partial<MapFile['keyspace']> = {}): MapFile {
    return {
      keyspace: { name: owner.keyspace, database, poolSize: 5, maxClients: 200, ...change },
      shards: [
        { name: 'one', epoch: 1, primary: 'one-eu-0' },
        { name: 'two', epoch: 1, primary: 'two-us-0' },
      ],
      members: this.members.map(({ name, shard, region, address }) => ({
        name,
        shard,
        region,
        address,
        agentAddress: '127.0.0.1',
        agentPort: this.agent(name).port,
      })),
      tenants: Object.entries(tenants).map(([key, shard]) => ({ key, shard })),
      proximity: { eu: ['us', 'ap'], us: ['eu', 'ap'], ap: ['us', 'eu'] },
    };
  }

  /** Agents say what the map says. */
  async writeMap(map: MapFile = this.map()): Promise<void> {
    followMap(this.agents, map);
    await this.writeMapOnly(map);
  }

  /** As if the API server said it, and no agent did. */
  async writeMapOnly(map: MapFile): Promise<void> {
    await writeFile(this.mapPath, JSON.stringify(map));
  }

  /** A router in this process; stopped with the keyspace. */
  async router(region = 'eu', change: Partial<RouterSettings> = {}, planner?: Planner): Promise<TestRouter> {
    const tls = new TlsFiles(this.folder, 200);
    await tls.start(() => undefined, this.#aborter.signal);
    const settings: RouterSettings = {
      namespace: owner.namespace,
      podName: `router-${region}`,
      podAddress: '127.0.0.1',
      peers: [],
      proxyFrom: [],
      keyspace: owner.keyspace,
      region,
      tlsFolder: this.folder,
      mapFile: this.mapPath,
      allowPlaintext: false,
      address: '127.0.0.1',
      port: 0,
      httpPort: 0,
      drainMs: 0,
      logLevel: process.env['ROUTER_LOG'] ?? 'silent',
      times: patientTimes,
      // A machine that has much else to do is given time: tests of the bound have one of their own.
      hold: { transactions: 100, bytes: 1024 * 1024, ms: 30_000 },
      ...change,
    };
    const worker = new RouterWorker({
      settings,
      source: new FileMapSource(this.mapPath, 100),
      tls,
      planner: planner ?? (await createPlanner()),
      log: pino({ level: settings.logLevel }),
    });
    this.#routers.push(worker);
    const port = await worker.start();
    while (!worker.isReady) await sleep(20);
    return new TestRouter(worker, port, this.ca.bundle);
  }

  /** Waits until the follower has replayed what its primary has written. */
  async caughtUp(): Promise<void> {
    const lsn = await this.asOperator('one-eu-0', async (client) => {
      const { rows } = await client.query<{ lsn: string }>('select pg_current_wal_lsn() as lsn');
      return rows[0]?.lsn;
    });
    await this.asOperator(
      'one-ap-0',
      async (client) => {
        const deadline = performance.now() + 60_000;
        while (performance.now() < deadline) {
          const { rows } = await client.query<{ done: boolean }>(
            'select pg_last_wal_replay_lsn() >= $1::pg_lsn as done',
            [lsn],
          );
          if (rows[0]?.done === true) return;
          await sleep(20);
        }
        throw new Error('the follower does not catch up');
      },
      'postgres',
    );
  }

  /** As its agent would say it, from its Postgres. */
  #watch(agent: TestAgent): void {
    let client: Promise<pg.Client> | undefined;
    agent.peers = this.members
      .filter(({ name, shard }) => shard === agent.shard && name !== agent.member)
      .map(({ name }) => ({ name, incarnation }));
    agent.look = async () => {
      client ??= this.#connect(agent.member);
      try {
        const { rows } = await (await client).query<{
          postmaster: string;
          recovering: boolean;
          epoch: number;
          lsn: string;
          flushed: Record<string, string> | null;
        }>(positionSql);
        const [row] = rows;
        if (row === undefined) return undefined;
        agent.flushed = Object.values(row.flushed ?? {});
        return { postmaster: row.postmaster, isRecovering: row.recovering, epoch: row.epoch, lsn: row.lsn };
      } catch {
        client = undefined;
        return undefined;
      }
    };
  }

  async #connect(name: string): Promise<pg.Client> {
    const { address } = this.member(name);
    const credentials = { ca: this.ca.bundle, ...this.operator };
    const client = await connectMember({ ...owner, member: name, address }, database, credentials, patient);
    client.on('error', () => undefined);
    this.#watching.push(client);
    return client;
  }

  /** Connections of application roles at a member, as Postgres counts them. */
  async backends(member: string, where = 'true'): Promise<number> {
    return this.asOperator(member, async (client) => {
      const { rows } = await client.query<{ count: string }>(
        `select count(*) from pg_stat_activity where datname = $1 and usename like '%\\_app' and ${where}`,
        [database],
      );
      return Number(rows[0]?.count);
    });
  }

  /** Logins of no tenant, at every primary: what else they may is for the map to say. */
  async letIn(...names: string[]): Promise<void> {
    const verifier = await passwordVerifier();
    for (const member of ['one-eu-0', 'two-us-0'])
      await this.asOperator(member, async (client) => {
        for (const name of names) await applyRole(client, { name, verifier, tenants: [] });
      });
  }

  async stop(): Promise<void> {
    await Promise.all(this.#routers.map((router) => router.stop(0)));
    this.#aborter.abort();
    for (const agent of this.agents.values()) agent.stop();
    await Promise.all(this.#watching.map((client) => client.end().catch(() => undefined)));
    await Promise.all(this.members.map((member) => member.container.stop({ timeout: 0 })));
    await rm(this.folder, { recursive: true, force: true });
  }

  async #setUp(shard: string, shardOrdinal: number): Promise<void> {
    const primary = this.members.find((member) => member.shard === shard)?.name ?? '';
    await this.asOperator(primary, (client) => ensureDatabase(client, database), 'postgres');
    await this.asOperator(primary, async (client) => {
      await client.query(prepareSql);
      await client.query(gateSql, [1, 1, '0/0']);
      await installOwnership(client, { tenantKey: { column: 'tenant_id', type: 'text' }, shardOrdinal });
      const run = await runMigrations(client, [firstMigration], {
        referenceTables: ['currencies'],
      });
      if (run.failure !== undefined) throw new Error(JSON.stringify(run.failure));
      const verifier = await passwordVerifier();
      for (const [name, allowed] of Object.entries(roles)) await applyRole(client, { name, verifier, ...allowed });
      for (const [key, home] of Object.entries(tenants))
        if (home === shard) await setTenant(client, { key, epoch: 1, state: 'active', attempt: 0 });
    });
  }
}

export class TestRouter {
  readonly worker: RouterWorker;
  readonly port: number;
  readonly #ca: string;

  constructor(worker: RouterWorker, port: number, ca: string) {
    this.worker = worker;
    this.port = port;
    this.#ca = ca;
  }

  config(user: string, more: pg.ClientConfig = {}): pg.ClientConfig {
    return { host: 'localhost', port: this.port, user, password, database, ssl: { ca: this.#ca }, ...more };
  }

  async connect(user: string, more: pg.ClientConfig = {}): Promise<pg.Client> {
    const client = new pg.Client(this.config(user, more));
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  /** Runs `use` on a connection of its own. */
  async with<T>(user: string, use: (client: pg.Client) => Promise<T>, more: pg.ClientConfig = {}): Promise<T> {
    const client = await this.connect(user, more);
    try {
      return await use(client);
    } finally {
      await client.end();
    }
  }
}

function certificate(
  ca: KeyspaceCa,
  identity: PeerIdentity,
  dnsNames: readonly string[] = [],
  ipAddresses: readonly string[] = [],
): Promise<KeyPairPem> {
  return issueCertificate(ca, { identity, dnsNames, ipAddresses }, new Date());
}

async function startMember(
  image: string,
  ca: KeyspaceCa,
  member: { readonly name: string; readonly shard: string; readonly region: string },
  primary?: string,
): Promise<TestMember> {
  const own = await certificate(ca, { kind: 'member', ...owner, member: member.name });
  const file = (name: string, content: string) => ({ target: `/etc/meridian/tls/${name}`, content, mode: 0o644 });
  const container = await new GenericContainer(image)
    .withCopyContentToContainer([
      file('tls.crt', own.certificate),
      file('tls.key', own.privateKey),
      file('ca.crt', ca.bundle),
      file('bootstrap.sql', `${bootstrapLines}\n`),
    ])
    .withEnvironment(primary === undefined ? {} : { PRIMARY: primary })
    .withExposedPorts(5432)
    .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept (read-only )?connections/))
    .withStartupTimeout(180_000)
    .start();
  return { ...member, container, address: container.getIpAddress('bridge') };
}
