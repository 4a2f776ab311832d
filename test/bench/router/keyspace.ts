/**
 * What the router's bench runs against: one container with Postgres, PgBouncer and pgbench on the machine's own loopback, a keyspace in it
 * as the operator makes it, and an agent that says that its member is an open primary.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { buildImage } from '#cluster/docker/image.ts';
import { run } from '#cluster/process.ts';
import { bootstrapRolesSql } from '#core/roles.ts';
import { makeVerifier } from '#operator/passwords/verifier.ts';
import { type KeyspaceCa, makeCa } from '#operator/pki/authority.ts';
import type { KeyPairPem } from '#operator/pki/key-pair.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';
import { withMember } from '#operator/postgres/connect.ts';
import { ensureDatabase } from '#operator/postgres/database.ts';
import { runMigrations } from '#operator/postgres/migrations.ts';
import { installOwnership } from '#operator/postgres/ownership/install.ts';
import { setTenant } from '#operator/postgres/ownership/tenants.ts';
import { applyRole } from '#operator/postgres/roles.ts';
import type { MapFile } from '#router/map/file-source.ts';
import { followMap, TestAgent } from '#test/integration/router-agents.ts';

/** Another first port where two benches run on one machine. */
const firstPort = Number(process.env['BENCH_PORT'] ?? 26_510);
export const ports = {
  postgres: firstPort,
  pgbouncer: firstPort + 1,
  router: firstPort + 2,
  routerHttp: firstPort + 3,
} as const;
export const database = 'bench';
export const password = 'correct horse';
/** Login fixed to tenant 1, and one that may act for all. */
export const roles = { fixed: 'fixed_app', any: 'any_app' } as const;

const owner = { namespace: 'test', keyspace: 'bench' };
const member = 'bench-eu-0';
const tenants = 10;
const maxConnections = 1_200;

/** pgbench's own tables with a tenant; so many branches that 64 clients seldom want the same. */
const schema = `
create table branches (tenant_id bigint not null, bid int not null, balance int not null, primary key (tenant_id, bid)) with (fillfactor = 50);
create table tellers (tenant_id bigint not null, tid int not null, bid int not null, balance int not null, primary key (tenant_id, tid)) with (fillfactor = 50);
create table accounts (
  tenant_id bigint not null, aid int not null, bid int not null, balance int not null, filler char(84) not null default '', primary key (tenant_id, aid)
) with (fillfactor = 80);
create table history (
  tenant_id bigint not null, id bigint generated always as identity, tid int, bid int, aid int, delta int, mtime timestamp, primary key (tenant_id, id)
);
create table work (tenant_id bigint not null, id int not null, amount int not null, primary key (tenant_id, id));
create table plain_accounts (aid int primary key, balance int not null);
grant select on plain_accounts to meridian_application;
grant select, insert, update, delete on branches, tellers, accounts, history, work to meridian_application;
grant usage on all sequences in schema public to meridian_application;
`;
export const sizes = { branches: 200, tellers: 2_000, accounts: 20_000 } as const;

const rows = `
insert into plain_accounts select n, 0 from generate_series(1, ${sizes.accounts}) n;
insert into branches select t, n, 0 from generate_series(1, ${tenants}) t, generate_series(1, ${sizes.branches}) n;
insert into tellers select t, n, 1 + n % ${sizes.branches}, 0 from generate_series(1, ${tenants}) t, generate_series(1, ${sizes.tellers}) n;
insert into accounts select t, n, 1 + n % ${sizes.branches}, 0, '' from generate_series(1, ${tenants}) t, generate_series(1, ${sizes.accounts}) n;
`;

export interface SiteOptions {
  readonly poolSize: number;
  /** More arguments for `docker run`. */
  readonly docker: readonly string[];
}

export class BenchSite {
  readonly folder: string;
  readonly #container: string;
  readonly #ca: KeyspaceCa;
  readonly #operator: KeyPairPem;
  readonly #agent: TestAgent;
  readonly #poolSize: number;

  private constructor(
    folder: string,
    container: string,
    ca: KeyspaceCa,
    operator: KeyPairPem,
    agent: TestAgent,
    poolSize: number,
  ) {
    this.folder = folder;
    this.#container = container;
    this.#ca = ca;
    this.#operator = operator;
    this.#agent = agent;
    this.#poolSize = poolSize;
  }

  static async start({ poolSize, docker }: SiteOptions): Promise<BenchSite> {
    const context = join(import.meta.dirname, 'image');
    const dockerfile = join(context, 'Dockerfile');
    const image = await buildImage({ repository: 'meridian/router-bench', dockerfile, context });
    const folder = await mkdtemp(join(tmpdir(), 'meridian-bench-'));
    const ca = await makeCa(owner, new Date());
    const issue = (identity: Parameters<typeof issueCertificate>[1]['identity'], dnsNames: string[] = []) =>
      issueCertificate(ca, { identity, dnsNames, ipAddresses: ['127.0.0.1'] }, new Date());
    const own = await issue({ kind: 'member', ...owner, member });
    const router = await issue({ kind: 'router', ...owner }, ['localhost']);
    const operator = await issue({ kind: 'operator', ...owner });
    await writeFile(join(folder, 'tls.crt'), router.certificate);
    await writeFile(join(folder, 'tls.key'), router.privateKey);
    await writeFile(join(folder, 'ca.crt'), ca.bundle);
    const mounted = join(folder, 'member');
    await mkdir(mounted, { mode: 0o755 });
    const files: Readonly<Record<string, string>> = {
      'tls.crt': own.certificate,
      'tls.key': own.privateKey,
      'ca.crt': ca.bundle,
      'bootstrap.sql': `${bootstrapRolesSql.trim()}\n`,
      settings: [
        `POSTGRES_PORT=${ports.postgres}`,
        `PGBOUNCER_PORT=${ports.pgbouncer}`,
        `MAX_CONNECTIONS=${maxConnections}`,
        `POOL_SIZE=${poolSize}`,
        `USERS="${Object.values(roles).join(' ')}"`,
        '',
      ].join('\n'),
    };
    for (const [name, content] of Object.entries(files)) await writeFile(join(mounted, name), content, { mode: 0o644 });
    const limits = ['--shm-size', '1g', '--tmpfs', '/var/tmp:rw,mode=1777', '--ulimit', 'nofile=20000:20000'];
    const start = ['docker', 'run', '-d', '--rm', '--network', 'host', ...limits];
    const container = await run([...start, '-v', `${mounted}:/etc/bench:ro`, ...docker, image]);
    const agent = await TestAgent.start(member, 'one', own, ca.bundle);
    const site = new BenchSite(folder, container.trim(), ca, operator, agent, poolSize);
    try {
      await site.#setUp();
    } catch (error) {
      await site.stop();
      throw error;
    }
    return site;
  }

  get caBundle(): string {
    return this.#ca.bundle;
  }

  /** Runs a program in the container. */
  exec(command: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<string> {
    const variables = Object.entries(environment).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
    return run(['docker', 'exec', ...variables, this.#container, ...command]);
  }

  /** Writes the map that a router reads. `plaintext`: between the router and its member, too. */
  async writeMap(plaintext: boolean): Promise<string> {
    const path = join(this.folder, 'map.json');
    const map: MapFile = {
      keyspace: { name: owner.keyspace, database, tenantType: 'bigint', poolSize: this.#poolSize, maxClients: 12_000 },
      shards: [{ name: 'one', epoch: 1, primary: member }],
      members: [
        {
          name: member,
          shard: 'one',
          region: 'eu',
          address: '127.0.0.1',
          port: ports.postgres,
          agentAddress: '127.0.0.1',
          agentPort: this.#agent.port,
          plaintext,
        },
      ],
      tenants: Array.from({ length: tenants }, (_, index) => ({ key: String(index + 1), shard: 'one' })),
    };
    followMap(new Map([[member, this.#agent]]), map);
    await writeFile(path, JSON.stringify(map));
    return path;
  }

  async asOperator<T>(use: (client: Client) => Promise<T>, at: string = database): Promise<T> {
    return withMember(
      { ...owner, member, address: '127.0.0.1', port: ports.postgres },
      at,
      { ca: this.#ca.bundle, ...this.#operator },
      use,
      // A machine that is busy with the bench of somebody else still gets there.
      { connectTimeoutMs: 30_000, statementTimeoutMs: 300_000 },
    );
  }

  async stop(): Promise<void> {
    this.#agent.stop();
    await run(['docker', 'rm', '-f', this.#container]).catch(() => undefined);
    await rm(this.folder, { recursive: true, force: true });
  }

  async #setUp(): Promise<void> {
    const deadline = performance.now() + 120_000;
    for (;;) {
      try {
        await this.asOperator((client) => ensureDatabase(client, database), 'postgres');
        break;
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await sleep(250);
      }
    }
    await this.asOperator(async (client) => {
      await installOwnership(client, { tenantKey: { column: 'tenant_id', type: 'bigint' }, shardOrdinal: 0 });
      const { failure } = await runMigrations(client, [{ name: '1', sql: schema }], {
        referenceTables: ['plain_accounts'],
      });
      if (failure !== undefined) throw new Error(JSON.stringify(failure));
      const verifier = await makeVerifier(password, { salt: Buffer.alloc(16, 7), iterations: 4096 });
      await applyRole(client, { name: roles.fixed, verifier, tenants: ['1'] });
      await applyRole(client, { name: roles.any, verifier, anyTenant: true });
      for (let key = 1; key <= tenants; key++)
        await setTenant(client, { key: String(key), epoch: 1, state: 'active', attempt: 0 });
      await client.query('set statement_timeout = 0');
      await client.query(`set role meridian_owner; ${rows}; reset role`);
      await client.query('vacuum (analyze)');
    });
  }
}
