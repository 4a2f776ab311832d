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
 */
export const tenancies = ['fixed', 'any', 'many'] as const;
export type Tenancy = (typeof tenancies)[number];

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
  ...(way === 'direct' && tenancy !== 'fixed' ? { PGOPTIONS: '-c meridian.tenant=1' } : {}),
});

export async function runPgbench(
  site: BenchSite,
  router: RouterProgram | undefined,
  run: Run,
  tls: boolean,
): Promise<Measured> {
  const isTls = tls && run.way !== 'pgbouncer';
  const before = await ticks(site, router);
  const { clients, seconds, protocol, workload, tenancy, way } = run;
  const text = script(workload, way === 'router' || tenancy === 'fixed' ? tenancy : 'any');
  const role = tenancy === 'fixed' ? roles.fixed : roles.any;
  const output = await site.exec(
    [
      'bash',
      '-c',
      `cd /tmp && rm -f bench.log* && printf '%s' "$1" >bench.sql && pgbench -h 127.0.0.1 -p ${port[way]} -U ${role} -n -M ${protocol} -T ${seconds} -c ${clients} -j ${Math.min(clients, 2)} -l --log-prefix=bench.log --sampling-rate=${workload === 'select' ? 0.1 : 1} -f bench.sql ${database} 2>&1 && cat bench.log* | awk '{print $3}' | sort -n | awk '{v[NR]=$1} END {print "p50 " v[int(NR*0.5)+1-(NR<2)] "\\np99 " v[int(NR*0.99)+1-(NR<2)] "\\nsamples " NR}'`,
      'bash',
      text,
    ],
    environmentOf(run, isTls),
  );
  const after = await ticks(site, router);
  const found = (pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? Number.NaN);
  const tps = found(/tps = ([\d.]+)/);
  const statements = found(/actually processed: (\d+)/) * statementsOf[workload];
  if (!(tps > 0) || !/failed transactions: 0 /.test(output)) throw new Error(`${JSON.stringify(run)}: ${output}`);
  const micros = (tickCount: number): number => (tickCount * microsPerTick) / statements;
  const between =
    way === 'router' ? after.router - before.router : way === 'pgbouncer' ? after.pgbouncer - before.pgbouncer : 0;
  return {
    tps,
    p50Micros: found(/^p50 (\d+)/m),
    p99Micros: found(/^p99 (\d+)/m),
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
