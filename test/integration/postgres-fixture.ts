/**
 * A plain Postgres 17 in a container of our own image (without the agent), with Meridian's fixed roles, for tests of what the operator
 * does inside Postgres. Data lies in memory (unless asked otherwise) and nobody is asked for a password: who connects as a role is that role's `session_user`.
 */
import { Client } from 'pg';
import { GenericContainer, type StartedNetwork, type StartedTestContainer, Wait } from 'testcontainers';
import { agentRole, bootstrapRolesSql, operatorRole } from '#core/roles.ts';
import { ensureDatabase } from '#operator/postgres/database.ts';
import { type Migration, type MigrationRun, runMigrations } from '#operator/postgres/migrations.ts';
import { installOwnership } from '#operator/postgres/ownership/install.ts';
import type { TenantKey } from '#operator/postgres/ownership/tenant-key.ts';
import { setTenant } from '#operator/postgres/ownership/tenants.ts';
import { applyRole, type RoleTenants } from '#operator/postgres/roles.ts';
import { buildImages } from '../../images/build.ts';

// No helper container that would have to be pulled; every fixture stops what it started.
process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';

const port = 5432;
const userId = '10001:10001';
/** In the image, owned by its user. */
const dataFolder = '/var/lib/meridian';
const pgdata = `${dataFolder}/pgdata`;

function startScript({ parameters, follows, onDisk }: PostgresOptions): string {
  const all = { ...(onDisk === true ? {} : inMemory), wal_level: 'logical', ...parameters };
  const flags = Object.entries(all).map(([name, value]) => `-c ${name}='${value}'`);
  const initialise =
    follows === undefined
      ? [
          `initdb -D ${pgdata} -U ${agentRole} --auth=trust --no-sync >/dev/null`,
          `echo 'host all,replication all all trust' >>${pgdata}/pg_hba.conf`,
        ]
      : [`pg_basebackup -D ${pgdata} -R -c fast -d 'host=${follows} user=${agentRole} application_name=follower'`];
  return [
    ...initialise,
    `chmod 0700 ${pgdata}`,
    `exec postgres -D ${pgdata} -c listen_addresses='*' -c unix_socket_directories=/tmp ${flags.join(' ')}`,
  ].join(' && ');
}

export interface PostgresOptions {
  readonly parameters?: Readonly<Record<string, string>>;
  /** Where others reach it as `alias`; with a port of the machine's own as well. */
  readonly network?: { readonly started: StartedNetwork; readonly alias: string };
  /** Makes it a follower of that alias in the same network. */
  readonly follows?: string;
  /** Data on the disk of Docker's volumes and flushed to it; otherwise in memory and never flushed. */
  readonly onDisk?: boolean;
}

const inMemory = { fsync: 'off' } as const;

export class PostgresFixture {
  readonly container: StartedTestContainer;
  readonly #clients: Client[] = [];

  private constructor(container: StartedTestContainer) {
    this.container = container;
  }

  static async start(options: PostgresOptions = {}): Promise<PostgresFixture> {
    const { postgres } = await buildImages({ only: 'postgres' });
    let image = new GenericContainer(postgres)
      .withEntrypoint(['sh', '-c', startScript(options)])
      .withUser(userId)
      .withSharedMemorySize(256 * 1024 * 1024)
      .withExposedPorts(port)
      .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept (read-only )?connections/))
      .withStartupTimeout(180_000);
    image = options.onDisk === true ? image : image.withTmpFs({ [dataFolder]: 'rw,uid=10001,gid=10001,mode=0700' });
    const { network } = options;
    image = network === undefined ? image : image.withNetwork(network.started).withNetworkAliases(network.alias);
    const fixture = new PostgresFixture(await image.start());
    if (options.follows === undefined) {
      await (await fixture.connect(agentRole, 'postgres')).query(bootstrapRolesSql);
    }
    return fixture;
  }

  /** A session of its own, ended with the fixture. */
  async connect(user: string, database: string, options?: string): Promise<Client> {
    const client = new Client({
      host: this.container.getHost(),
      port: this.container.getMappedPort(port),
      user,
      database,
      ...(options !== undefined && { options }),
    });
    // A session that a test ends from outside must not end the test's process.
    client.on('error', () => {});
    await client.connect();
    this.#clients.push(client);
    return client;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.end().catch(() => {})));
    await this.container.stop();
  }
}

export interface KeyspaceDatabaseOptions {
  readonly database: string;
  readonly tenantKey?: TenantKey;
  readonly shardOrdinal?: number;
  readonly migrations?: readonly Migration[];
  readonly referenceTables?: readonly string[];
  readonly roles?: Readonly<Record<string, RoleTenants>>;
  /** Owned by this shard, in state `active`. */
  readonly tenants?: readonly string[];
}

/** Text form of a verifier; nobody logs in with it here. */
export const anyVerifier = 'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy';

/** One keyspace's database as the operator makes it, and sessions in it. */
export class KeyspaceDatabase {
  readonly postgres: PostgresFixture;
  readonly database: string;
  /** The operator's session. */
  readonly operator: Client;
  readonly migrated: MigrationRun;

  private constructor(postgres: PostgresFixture, database: string, operator: Client, migrated: MigrationRun) {
    this.postgres = postgres;
    this.database = database;
    this.operator = operator;
    this.migrated = migrated;
  }

  static async make(postgres: PostgresFixture, options: KeyspaceDatabaseOptions): Promise<KeyspaceDatabase> {
    await ensureDatabase(await postgres.connect(operatorRole, 'postgres'), options.database);
    const operator = await postgres.connect(operatorRole, options.database);
    await installOwnership(operator, {
      tenantKey: options.tenantKey ?? { column: 'tenant_id', type: 'text' },
      shardOrdinal: options.shardOrdinal ?? 0,
    });
    const migrated = await runMigrations(operator, options.migrations ?? [], {
      referenceTables: options.referenceTables ?? [],
    });
    if (migrated.failure !== undefined) throw new Error(migrated.failure.message);
    for (const [name, tenants] of Object.entries(options.roles ?? {})) {
      await applyRole(operator, { name, verifier: anyVerifier, ...tenants });
    }
    for (const key of options.tenants ?? []) await setTenant(operator, { key, epoch: 1, state: 'active', attempt: 0 });
    return new KeyspaceDatabase(postgres, options.database, operator, migrated);
  }

  connect(user: string, options?: string): Promise<Client> {
    return this.postgres.connect(user, this.database, options);
  }
}
