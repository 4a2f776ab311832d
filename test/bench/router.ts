/**
 * `npm run bench:router [-- options]`: the router beside a direct connection and PgBouncer, all on this machine: the same pgbench runs
 * one after the other, several rounds in alternating order, medians and ratios to the direct connection. See docs/performance.md for
 * what the columns mean. `--help` lists the options; figures count on a machine that does nothing else.
 */
import { cpus, loadavg } from 'node:os';
import { Command } from 'commander';
import { median } from './ownership/median.ts';
import { measureIdle } from './router/idle.ts';
import { BenchSite } from './router/keyspace.ts';
import { measureLevels } from './router/levels.ts';
import { measureNeighbours } from './router/neighbour.ts';
import {
  type Measured,
  type Protocol,
  protocols,
  type Run,
  runPgbench,
  type Tenancy,
  tenancies,
  type Way,
  type Workload,
  ways,
  workloads,
} from './router/pgbench.ts';
import { RouterProgram } from './router/router-program.ts';

const list = (text: string): string[] => text.split(',').filter((part) => part !== '');
const program = new Command('bench:router')
  .option('--ways <list>', `of ${ways.join(',')}`, list, [...ways])
  .option('--workloads <list>', `of ${workloads.join(',')}`, list, [...workloads])
  .option('--kinds <list>', `of ${protocols.join(',')}`, list, [...protocols])
  .option('--tenants <list>', `of ${tenancies.join(',')}`, list, ['fixed'])
  .option('--clients <list>', 'numbers of clients', list, ['1', '16', '64', '256', '1000'])
  .option('--rounds <n>', 'rounds of each', Number, 5)
  .option('--seconds <n>', 'length of a run', Number, 4)
  .option('--pool <n>', 'connections to Postgres, of PgBouncer and of the router', Number, 20)
  .option('--idle <n>', 'measure memory with so many idle clients (0: not)', Number, 10_000)
  .option('--turns <n>', 'how often that many come and go', Number, 3)
  .option('--neighbour', 'what a slow statement of one client does to others')
  .option('--rates <list>', 'statements a second of those others (0: as many as they can)', list, ['0', '500'])
  .option('--levels', 'consistency levels with a distance between regions, and nothing else')
  .option('--distance <ms>', 'a round trip between regions', Number, 40)
  .option('--tls', 'TLS from client to router and from router to Postgres, and to Postgres directly')
  .option('--runtime <command>', 'what runs the router', process.execPath)
  .option('--environment <list>', 'NAME=value,... for the router', list, [])
  .option('--docker <arguments>', 'more arguments for docker run', '')
  .parse();
const options = program.opts<{
  ways: Way[];
  workloads: Workload[];
  kinds: Protocol[];
  tenants: Tenancy[];
  clients: string[];
  rounds: number;
  seconds: number;
  pool: number;
  idle: number;
  turns: number;
  neighbour?: boolean;
  rates: string[];
  levels?: boolean;
  distance: number;
  tls?: boolean;
  runtime: string;
  environment: string[];
  docker: string;
}>();
const tls = options.tls === true;

const load = (): string =>
  loadavg()
    .map((value) => value.toFixed(1))
    .join(' ');

async function compare(site: BenchSite, router: RouterProgram, run: Omit<Run, 'way'>): Promise<void> {
  const measured = new Map<Way, Measured[]>(options.ways.map((way) => [way, []]));
  for (let round = 0; round < options.rounds; round++) {
    // The order alternates, so that a drift of the machine falls on all.
    for (const way of round % 2 === 0 ? options.ways : options.ways.toReversed())
      measured.get(way)?.push(await runPgbench(site, router, { ...run, way }, tls));
  }
  for (const [way, runs] of measured) {
    const direct = measured.get('direct');
    const of = (pick: (one: Measured) => number): number => median(runs.map(pick));
    const ratio =
      direct === undefined
        ? Number.NaN
        : median(runs.map((one, round) => one.tps / (direct[round]?.tps ?? Number.NaN)));
    console.log(
      [
        run.workload.padEnd(7),
        run.tenancy.padEnd(6),
        run.protocol.padEnd(9),
        String(run.clients).padStart(5),
        way.padEnd(10),
        of(({ tps }) => tps)
          .toFixed(0)
          .padStart(8),
        ratio.toFixed(2).padStart(6),
        of(({ p50Micros }) => p50Micros)
          .toFixed(0)
          .padStart(8),
        of(({ p99Micros }) => p99Micros)
          .toFixed(0)
          .padStart(8),
        of(({ betweenMicros }) => betweenMicros)
          .toFixed(1)
          .padStart(8),
        of(({ postgresMicros }) => postgresMicros)
          .toFixed(1)
          .padStart(8),
      ].join(' '),
    );
  }
}

console.log(
  `${new Date().toISOString()}  ${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}  load ${load()}  TLS ${tls ? 'on' : 'off'}  router on ${options.runtime}`,
);
if (options.levels === true) {
  for (const clients of options.clients)
    await measureLevels({ clients: Number(clients), seconds: options.seconds, distanceMs: options.distance });
  process.exit();
}
const site = await BenchSite.start({ poolSize: options.pool, docker: list(options.docker.replaceAll(' ', ',')) });
let router: RouterProgram | undefined;
process.once('SIGINT', () => {
  void (async () => {
    await router?.stop();
    await site.stop();
    process.exit(130);
  })();
});
try {
  router = await RouterProgram.start(site, {
    runtime: options.runtime.split(' '),
    tls,
    environment: Object.fromEntries(options.environment.map((one) => one.split(/=(.*)/s).slice(0, 2))),
  });
  const warmUp = { clients: 16, seconds: 3, way: 'router', protocol: 'simple', tenancy: 'fixed' } as const;
  for (const workload of options.workloads) await runPgbench(site, router, { ...warmUp, workload }, tls);
  if (options.rounds > 0 && options.neighbour !== true)
    console.log(
      'work    tenant kind    clients way             tps  ratio   p50 µs   p99 µs  between   server (µs CPU a statement)',
    );
  for (const workload of options.rounds > 0 && options.neighbour !== true ? options.workloads : [])
    for (const tenancy of options.tenants)
      for (const protocol of options.kinds)
        for (const clients of options.clients)
          await compare(site, router, {
            workload,
            tenancy,
            protocol,
            clients: Number(clients),
            seconds: options.seconds,
          });
  if (options.neighbour === true)
    await measureNeighbours(site, {
      protocols: options.kinds,
      clients: options.clients.map(Number),
      rates: options.rates.map(Number),
      rounds: options.rounds,
      seconds: options.seconds,
    });
  else if (options.idle > 0) await measureIdle(site, router, { clients: options.idle, turns: options.turns, tls });
} finally {
  await router?.stop();
  await site.stop();
}
console.log(`load ${load()}`);
