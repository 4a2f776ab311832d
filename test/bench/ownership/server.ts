/**
 * What the ownership bench measures on: one Postgres with two databases that have the same tables and rows, `bare` (no protection) and
 * `kept` (as the operator makes it), and pgbench beside it in the same container.
 */
import type { Client } from 'pg';
import { agentRole, operatorRole } from '#core/roles.ts';
import { applyRole } from '#operator/postgres/roles.ts';
import {
  anyVerifier,
  KeyspaceDatabase,
  PostgresFixture,
  type PostgresOptions,
} from '#test/integration/postgres-fixture.ts';

export const databases = { without: 'bare', with: 'kept' } as const;
export type Database = keyof typeof databases;

/** The role fixed to the tenant, and the one trusted with all, whose sessions are pinned by the setting. */
export const roles = { fixed: 'fixed_app', any: 'any_app' } as const;
export type Role = keyof typeof roles;

export const workloads = ['select', 'insert', 'update'] as const;
export type Workload = (typeof workloads)[number];
export type Protocol = 'simple' | 'extended' | 'prepared';

const tenant = 't1';
const rowsPerTenant = 10_000;
const tenants = 10;
/** Others that the shard owns and that have a login, so that look-ups are over tables of a usual size. */
const otherTenants = 1_000;

const scripts: Readonly<Record<Workload, string>> = {
  select: `\\set id random(1, ${rowsPerTenant})\nselect balance, note from accounts where tenant_id = '${tenant}' and id = :id;\n`,
  insert: `insert into payments (tenant_id, amount, note) values ('${tenant}', 12, 'sixteen letters.');\n`,
  update: `\\set id random(1, ${rowsPerTenant})\nupdate accounts set balance = balance + 1 where tenant_id = '${tenant}' and id = :id;\n`,
};

const tables = `
create table accounts (
  tenant_id text not null, id bigint not null, balance bigint not null, note text not null, primary key (tenant_id, id)
) with (fillfactor = 70);
create table payments (
  tenant_id text not null, id bigint generated always as identity, amount bigint not null, note text not null,
  primary key (tenant_id, id)
);
`;

const rows = `
insert into accounts select 't' || t, id, 0, 'sixteen letters.' from generate_series(1, ${tenants}) t, generate_series(1, ${rowsPerTenant}) id;
`;

export interface Run {
  readonly tps: number;
  /** Processor time of the server's sessions per transaction, microseconds. Less disturbed by other work on the machine than tps. */
  readonly serverMicros: number;
}

export class BenchServer {
  readonly fixture: PostgresFixture;

  private constructor(fixture: PostgresFixture) {
    this.fixture = fixture;
  }

  static async start(options: PostgresOptions): Promise<BenchServer> {
    const fixture = await PostgresFixture.start(options);
    const kept = await KeyspaceDatabase.make(fixture, {
      database: databases.with,
      migrations: [{ name: '1', sql: tables }],
      roles: { [roles.any]: { anyTenant: true }, [roles.fixed]: { tenants: [tenant] } },
      tenants: Array.from({ length: tenants }, (_, i) => `t${i + 1}`),
    });
    await kept.operator.query(`set role meridian_owner; ${rows}; reset role`);
    await makeOthers(kept.operator);
    const admin = await fixture.connect(agentRole, 'postgres');
    await admin.query(
      `create database ${databases.without} template template0 encoding 'UTF8' locale_provider builtin builtin_locale 'C.UTF-8' locale 'C.UTF-8'`,
    );
    const bare = await fixture.connect(operatorRole, databases.without);
    await bare.query(`${tables}${rows}`);
    for (const role of Object.values(roles)) {
      await bare.query(`grant select, insert, update, delete on accounts, payments to ${role}`);
    }
    for (const client of [kept.operator, bare]) await client.query('vacuum (analyze)');
    const server = new BenchServer(fixture);
    for (const workload of workloads) {
      await server.#exec(['sh', '-c', `printf '%s' "$1" >/tmp/${workload}.sql`, 'sh', scripts[workload]]);
    }
    return server;
  }

  /** One run of pgbench. */
  async run(
    what: { database: Database; role: Role; workload: Workload; protocol: Protocol; clients: number },
    seconds: number,
  ): Promise<Run> {
    const before = await this.#sessionsTicks();
    const threads = Math.min(what.clients, 2);
    const output = await this.#exec([
      'sh',
      '-c',
      `PGOPTIONS='-c meridian.tenant=${tenant}' pgbench -h /tmp -U ${roles[what.role]} -n -M ${what.protocol} -T ${seconds} -c ${what.clients} -j ${threads} -f /tmp/${what.workload}.sql ${databases[what.database]}`,
    ]);
    const tps = Number(/tps = ([\d.]+)/.exec(output)?.[1]);
    const transactions = Number(/actually processed: (\d+)/.exec(output)?.[1]);
    if (!(tps > 0) || !/failed transactions: 0 /.test(output)) throw new Error(output);
    const ticks = (await this.#sessionsTicks()) - before;
    return { tps, serverMicros: (ticks * microsPerTick) / transactions };
  }

  async stop(): Promise<void> {
    await this.fixture.stop();
  }

  /** Processor time of the postmaster's children that have ended (proc(5), `stat`, cutime and cstime): those are pgbench's sessions. */
  async #sessionsTicks(): Promise<number> {
    const fields = (await this.#exec(['cat', '/proc/1/stat'])).replace(/^.*\) /s, '').split(' ');
    return Number(fields[13]) + Number(fields[14]);
  }

  async #exec(command: string[]): Promise<string> {
    const { exitCode, output } = await this.fixture.container.exec(command);
    if (exitCode !== 0) throw new Error(`${command.join(' ')}: ${output}`);
    return output;
  }
}

const microsPerTick = 10_000;

async function makeOthers(operator: Client): Promise<void> {
  await operator.query(`
    insert into meridian.tenant (key) select 'other' || g from generate_series(1, ${otherTenants}) g;
    insert into meridian.ownership (serial, key, epoch, state, attempt) select serial, key, 1, 'active', 0 from meridian.tenant where key like 'other%';
    insert into meridian.login select 'app_' || key, false, array[key], array[key], key, serial from meridian.tenant where key like 'other%';
  `);
  await applyRole(operator, { name: roles.fixed, verifier: anyVerifier, tenants: [tenant] });
}
