/** One run of pgbench against one of the ways to Postgres, and what it took there and on the way. */
import { type BenchSite, database, password, ports, roles, sizes } from './keyspace.ts';
import { microsPerTick, ownTicks, ticksOf } from './processor.ts';
import type { RouterProgram } from './router-program.ts';

export const ways = ['direct', 'pgbouncer', 'router'] as const;
export type Way = (typeof ways)[number];
export const protocols = ['simple', 'extended', 'prepared'] as const;
export type Protocol = (typeof protocols)[number];
export const workloads = ['select', 'tpcb'] as const;
export type Workload = (typeof workloads)[number];
/**
 * How a statement gets its tenant. fixed: from the login, and Postgres has it as a constant. any: from the statement, one tenant; the
 * session at Postgres is pinned. many: the same with ten tenants in turn, which only a router can pin for (others stay with one).
 * none: nothing of any tenant's is read, and there is nothing to route by.
 */
export const tenancies = ['fixed', 'any', 'many', 'none'] as const;
export type Tenancy = (typeof tenancies)[number];
const routed: ReadonlySet<Tenancy> = new Set(['any', 'many']);

export interface Run {
  readonly way: Way;
  readonly protocol: Protocol;
  readonly workload: Workload;
  readonly tenancy: Tenancy;
  readonly clients: number;
  readonly seconds: number;
}

export interface Measured {
  readonly tps: number;
  readonly p50Micros: number;
  readonly p99Micros: number;
  /** Processor time of what lies between, per statement; 0 for direct. */
  readonly betweenMicros: number;
  /** Of Postgres, per statement. */
  readonly postgresMicros: number;
}

function script(workload: Workload, tenancy: Tenancy): string {
  const tenant = `\\set tenant ${tenancy === 'many' ? 'random(1, 10)' : '1'}\n`;
  const aid = `\\set aid random(1, ${sizes.accounts})\n`;
  if (tenancy === 'none') return `${aid}select balance from plain_accounts where aid = :aid;\n`;
  if (workload === 'select')
    return `${tenant}${aid}select balance from accounts where tenant_id = :tenant and aid = :aid;\n`;
  return `${tenant}${aid}\\set bid random(1, ${sizes.branches})
\\set tid random(1, ${sizes.tellers})
\\set delta random(-5000, 5000)
begin;
update accounts set balance = balance + :delta where tenant_id = :tenant and aid = :aid;
select balance from accounts where tenant_id = :tenant and aid = :aid;
update tellers set balance = balance + :delta where tenant_id = :tenant and tid = :tid;
update branches set balance = balance + :delta where tenant_id = :tenant and bid = :bid;
insert into history (tenant_id, tid, bid, aid, delta, mtime) values (:tenant, :tid, :bid, :aid, :delta, current_timestamp);
end;
`;
}

const statementsOf: Readonly<Record<Workload, number>> = { select: 1, tpcb: 7 };
const port: Readonly<Record<Way, number>> = {
  direct: ports.postgres,
  pgbouncer: ports.pgbouncer,
  router: ports.router,
};

/** Only a router pins as the statement says: without one the session has its one tenant. */
const environmentOf = ({ way, tenancy }: Run, tls: boolean): Readonly<Record<string, string>> => ({
  PGPASSWORD: password,
  PGSSLMODE: tls ? 'require' : 'disable',
  PGGSSENCMODE: 'disable',
  ...(way === 'direct' && routed.has(tenancy) ? { PGOPTIONS: '-c meridian.tenant=1' } : {}),
});

export interface PgbenchOptions {
  readonly port: number;
  readonly role: string;
  readonly protocol: Protocol;
  readonly clients: number;
  readonly seconds: number;
  /** Each as often as the others. */
  readonly scripts: readonly string[];
  /** Part of the transactions whose latency is looked at. */
  readonly sampling?: number;
  /** Transactions a second, of all clients together; as many as they can without. */
  readonly rate?: number;
  readonly environment: Readonly<Record<string, string>>;
}

export interface Latencies {
  readonly tps: number;
  readonly transactions: number;
  readonly p50Micros: number;
  readonly p99Micros: number;
  readonly p999Micros: number;
  readonly worstMicros: number;
}

let runs = 0;

/** Runs pgbench in the site's container. @throws where a transaction failed. */
export async function pgbench(site: Pick<BenchSite, 'exec'>, options: PgbenchOptions): Promise<Latencies> {
  const { port, role, protocol, clients, seconds, scripts, sampling = 1, rate, environment } = options;
  runs += 1;
  const folder = `/tmp/run-${runs}`;
  const files = scripts.map((_, index) => `script-${index}.sql`);
  const flags = `-n -M ${protocol} -T ${seconds} -c ${clients} -j ${Math.min(clients, 2)} -l --log-prefix=log --sampling-rate=${sampling}`;
  const line = [
    `pgbench -h 127.0.0.1 -p ${port} -U ${role} ${flags}`,
    ...(rate === undefined ? [] : ['-R', rate]),
    ...files.map((file) => `-f ${file}`),
    database,
  ].join(' ');
  const write = files.map((file, index) => `printf '%s' "$${index + 1}" >${file}`).join(' && ');
  const place = (part: number): string => `v[int(NR*${part})+1-(NR<2)]`;
  const percentiles = `END {print "p50 " ${place(0.5)} "\\np99 " ${place(0.99)} "\\np999 " ${place(0.999)} "\\nworst " v[NR]}`;
  const output = await site.exec(
    [
      'bash',
      '-c',
      `mkdir -p ${folder} && cd ${folder} && ${write} && ${line} 2>&1 && cat log* | awk '{print $3}' | sort -n | awk '{v[NR]=$1} ${percentiles}'; rm -rf ${folder}`,
      'bash',
      ...scripts,
    ],
    environment,
  );
  const found = (pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? Number.NaN);
  const tps = found(/tps = ([\d.]+)/);
  if (!(tps > 0) || !/failed transactions: 0 /.test(output)) throw new Error(`${line}: ${output}`);
  return {
    tps,
    transactions: found(/actually processed: (\d+)/),
    p50Micros: found(/^p50 (\d+)/m),
    p99Micros: found(/^p99 (\d+)/m),
    p999Micros: found(/^p999 (\d+)/m),
    worstMicros: found(/^worst (\d+)/m),
  };
}

export async function runPgbench(
  site: BenchSite,
  router: RouterProgram | undefined,
  run: Run,
  tls: boolean,
): Promise<Measured> {
  const isTls = tls && run.way !== 'pgbouncer';
  const before = await ticks(site, router);
  const { clients, seconds, protocol, workload, tenancy, way } = run;
  const { tps, transactions, p50Micros, p99Micros } = await pgbench(site, {
    port: port[way],
    role: routed.has(tenancy) ? roles.any : roles.fixed,
    protocol,
    clients,
    seconds,
    scripts: [script(workload, way === 'router' || !routed.has(tenancy) ? tenancy : 'any')],
    sampling: workload === 'select' ? 0.1 : 1,
    environment: environmentOf(run, isTls),
  });
  const after = await ticks(site, router);
  const statements = transactions * statementsOf[workload];
  const micros = (tickCount: number): number => (tickCount * microsPerTick) / statements;
  const between =
    way === 'router' ? after.router - before.router : way === 'pgbouncer' ? after.pgbouncer - before.pgbouncer : 0;
  return {
    tps,
    p50Micros,
    p99Micros,
    betweenMicros: micros(between),
    postgresMicros: micros(after.postgres - before.postgres),
  };
}

interface Ticks {
  readonly postgres: number;
  readonly pgbouncer: number;
  readonly router: number;
}

async function ticks(site: BenchSite, router: RouterProgram | undefined): Promise<Ticks> {
  const lines = (await site.exec(['bash', '-c', 'cat /proc/[0-9]*/stat 2>/dev/null || true'])).split('\n');
  const of = (name: string): number =>
    lines
      .filter((line) => line.includes(`(${name})`))
      // The first process has reaped the sessions that are gone.
      .reduce((sum, line) => sum + ticksOf(line, line.startsWith('1 ')), 0);
  return {
    postgres: of('postgres'),
    pgbouncer: of('pgbouncer'),
    router: router === undefined ? 0 : await ownTicks(router.processId),
  };
}
