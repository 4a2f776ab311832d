/**
 * `npm run bench:ownership [-- --short]`: what the pin and the ownership check cost, as pgbench sees it: the same statements by key on
 * the same tables with and without protection, in alternating rounds, CPU-bound (data in memory, no flush) and with a synchronous follower
 * (flushed to disk on both). The cost is the part of the throughput that is lost, by the median of the rounds' ratios.
 */
import { cpus, loadavg } from 'node:os';
import { Network } from 'testcontainers';
import { PostgresFixture } from '#test/integration/postgres-fixture.ts';
import { median } from './ownership/median.ts';
import { BenchServer, type Protocol, type Role, type Run, type Workload } from './ownership/server.ts';

const short = process.argv.includes('--short');
const rounds = short ? 3 : 5;
const seconds = short ? 1 : 2;
const warmUpSeconds = 1;

interface Case {
  readonly workload: Workload;
  readonly role: Role;
  readonly protocol: Protocol;
  /** Largest part of the throughput that may be lost; absent where no target is set. */
  readonly target?: number;
}

const cpuCases: readonly Case[] = [
  { workload: 'select', role: 'fixed', protocol: 'prepared', target: 0.12 },
  { workload: 'insert', role: 'fixed', protocol: 'prepared', target: 0.3 },
  { workload: 'update', role: 'fixed', protocol: 'prepared', target: 0.3 },
  { workload: 'select', role: 'any', protocol: 'prepared', target: 0.12 },
  { workload: 'insert', role: 'any', protocol: 'prepared', target: 0.3 },
  { workload: 'update', role: 'any', protocol: 'prepared', target: 0.3 },
  { workload: 'select', role: 'fixed', protocol: 'simple' },
  { workload: 'update', role: 'fixed', protocol: 'simple' },
  { workload: 'select', role: 'any', protocol: 'simple' },
];

const synchronousCases: readonly Case[] = [
  { workload: 'insert', role: 'fixed', protocol: 'prepared', target: 0.1 },
  { workload: 'update', role: 'fixed', protocol: 'prepared', target: 0.1 },
  { workload: 'update', role: 'any', protocol: 'prepared', target: 0.1 },
];

async function compare(server: BenchServer, title: string, cases: readonly Case[], clients: number): Promise<void> {
  console.log(`\n${title}; ${clients} clients, ${rounds} rounds of ${seconds} s`);
  console.log(
    'statement  role   protocol   tps without  tps with   cost   target           server time without, with (µs)',
  );
  for (const { workload, role, protocol, target } of cases) {
    const measured: { without: Run; with: Run }[] = [];
    for (let round = 0; round < rounds; round++) {
      const what = { workload, role, protocol, clients };
      const pair: Partial<Record<'without' | 'with', Run>> = {};
      // The order alternates, so that a drift of the machine falls on both.
      for (const database of round % 2 === 0 ? (['without', 'with'] as const) : (['with', 'without'] as const)) {
        if (round === 0) await server.run({ ...what, database }, warmUpSeconds);
        pair[database] = await server.run({ ...what, database }, seconds);
      }
      if (pair.without !== undefined && pair.with !== undefined)
        measured.push({ without: pair.without, with: pair.with });
    }
    const cost = 1 - median(measured.map((pair) => pair.with.tps / pair.without.tps));
    const percent = `${(cost * 100).toFixed(1)} %`;
    const verdict = target === undefined ? '' : `${target * 100} % ${cost <= target ? 'reached' : 'MISSED'}`;
    const of = (pick: (pair: (typeof measured)[number]) => number, digits = 0): string =>
      median(measured.map(pick)).toFixed(digits);
    console.log(
      [
        workload.padEnd(10),
        role.padEnd(6),
        protocol.padEnd(9),
        of((pair) => pair.without.tps).padStart(12),
        of((pair) => pair.with.tps).padStart(9),
        percent.padStart(8),
        `  ${verdict.padEnd(15)}`,
        `${of((pair) => pair.without.serverMicros, 1)}, ${of((pair) => pair.with.serverMicros, 1)}`,
      ].join(' '),
    );
  }
}

const started = performance.now();
console.log(
  `${new Date().toISOString()}  ${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}  load ${loadavg()
    .map((load) => load.toFixed(1))
    .join(' ')}`,
);

const inMemory = await BenchServer.start({
  parameters: { synchronous_commit: 'off', max_wal_size: '4GB', jit: 'off' },
});
try {
  const { rows } = await (await inMemory.fixture.connect('meridian_operator', 'postgres')).query<{ version: string }>(
    'select version()',
  );
  console.log(rows[0]?.version);
  // Enough clients to leave no processor idle: with few, throughput is about where the scheduler puts a client and its backend.
  await compare(inMemory, 'CPU-bound', cpuCases, 4 * cpus().length);
} finally {
  await inMemory.stop();
}

const network = await new Network().start();
try {
  const primary = await BenchServer.start({
    onDisk: true,
    parameters: { max_wal_size: '4GB', jit: 'off' },
    network: { started: network, alias: 'primary' },
  });
  const follower = await PostgresFixture.start({
    onDisk: true,
    network: { started: network, alias: 'follower' },
    follows: 'primary',
  });
  try {
    const operator = await primary.fixture.connect('meridian_operator', 'postgres');
    await operator.query(`alter system set synchronous_standby_names = 'follower'`);
    await operator.query('select pg_reload_conf()');
    await compare(primary, 'Commits flushed here and on a synchronous follower', synchronousCases, 4);
    const { rows } = await operator.query<{ sync_state: string }>('select sync_state from pg_stat_replication');
    if (rows[0]?.sync_state !== 'sync') throw new Error('the follower was not synchronous');
  } finally {
    await Promise.all([primary.stop(), follower.stop()]);
  }
} finally {
  await network.stop();
}
console.log(
  `\n${((performance.now() - started) / 1000).toFixed(0)} s; load ${loadavg()
    .map((load) => load.toFixed(1))
    .join(' ')}`,
);
