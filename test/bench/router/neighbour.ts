/**
 * What one client's slow statement does to the others: quick clients run one statement over and over while another runs the very same one,
 * whose plan nobody can tell apart, with a key for which it takes a tenth of a second. Beside it the same slow statement sent to Postgres
 * directly: what it costs the others then is the processor's doing, not the router's.
 */
import pg from 'pg';
import { median } from '../ownership/median.ts';
import { type BenchSite, database, password, ports, roles } from './keyspace.ts';
import { type Latencies, type Protocol, pgbench } from './pgbench.ts';

export interface NeighbourOptions {
  readonly protocols: readonly Protocol[];
  readonly clients: readonly number[];
  /** Transactions a second of all quick clients together; 0: as many as they can. */
  readonly rates: readonly number[];
  readonly rounds: number;
  readonly seconds: number;
}

const heavyId = 0;
const quickIds = 1_000;
const wantedMs = 100;
const statement = (id: string): string =>
  `select max(n) from work, generate_series(1, amount) n where tenant_id = 1 and id = ${id}`;

export async function measureNeighbours(site: BenchSite, options: NeighbourOptions): Promise<void> {
  await prepare(site);
  console.log(
    'neighbours: slow       kind      clients  rate      tps   p50 µs   p99 µs p99.9 µs worst µs   slow ones',
  );
  for (const protocol of options.protocols)
    for (const clients of options.clients)
      for (const rate of options.rates) {
        const kinds = ['none', 'direct', 'router'] as const;
        const measured = new Map<(typeof kinds)[number], (Latencies & { slow: number })[]>();
        for (let round = 0; round < options.rounds; round++)
          for (const kind of round % 2 === 0 ? kinds : kinds.toReversed()) {
            const slow = kind === 'none' ? undefined : await SlowClient.start(kind, protocol);
            const quick = await pgbench(site, {
              port: ports.router,
              role: roles.fixed,
              protocol,
              clients,
              seconds: options.seconds,
              scripts: [`\\set id random(1, ${quickIds})\n${statement(':id')};\n`],
              ...(rate > 0 ? { rate } : {}),
              environment: { PGPASSWORD: password, PGSSLMODE: 'disable', PGGSSENCMODE: 'disable' },
            });
            const runs = measured.get(kind) ?? [];
            measured.set(kind, runs);
            runs.push({ ...quick, slow: (await slow?.stop()) ?? 0 });
          }
        for (const [kind, runs] of measured) {
          const of = (pick: (one: Latencies & { slow: number }) => number): string =>
            median(runs.map(pick)).toFixed(0).padStart(8);
          console.log(
            [
              '           ',
              kind.padEnd(10),
              protocol.padEnd(9),
              String(clients).padStart(7),
              String(rate === 0 ? '-' : rate).padStart(5),
              of(({ tps }) => tps),
              of(({ p50Micros }) => p50Micros),
              of(({ p99Micros }) => p99Micros),
              of(({ p999Micros }) => p999Micros),
              of(({ worstMicros }) => worstMicros),
              of(({ slow }) => slow),
            ].join(' '),
          );
        }
      }
}

/** A row for which the statement takes as long as wanted, and many for which it takes no time. */
async function prepare(site: BenchSite): Promise<void> {
  await site.asOperator(async (client) => {
    await client.query('set role meridian_owner');
    await client.query('delete from work');
    await client.query(`insert into work select 1, n, 1 from generate_series(1, ${quickIds}) n`);
    let amount = 200_000;
    for (let attempt = 0; attempt < 3; attempt++) {
      const startedAt = performance.now();
      await client.query(`select max(n) from generate_series(1, ${amount}) n`);
      amount = Math.round((amount * wantedMs) / (performance.now() - startedAt));
    }
    await client.query('insert into work values (1, $1, $2)', [heavyId, amount]);
    await client.query('reset role');
    await client.query('analyze work');
  });
}

class SlowClient {
  readonly #client: pg.Client;
  readonly #running: Promise<void>;
  #isStopped = false;
  #count = 0;

  private constructor(client: pg.Client, protocol: Protocol) {
    this.#client = client;
    this.#running = this.#run(protocol);
  }

  static async start(way: 'direct' | 'router', protocol: Protocol): Promise<SlowClient> {
    const port = way === 'direct' ? ports.postgres : ports.router;
    const client = new pg.Client({ host: '127.0.0.1', port, user: roles.fixed, password, database });
    await client.connect();
    return new SlowClient(client, protocol);
  }

  async #run(protocol: Protocol): Promise<void> {
    while (!this.#isStopped) {
      if (protocol === 'simple') await this.#client.query(statement(String(heavyId)));
      else await this.#client.query({ name: 'work', text: statement('$1'), values: [heavyId] });
      this.#count += 1;
    }
  }

  /** How often it has run. */
  async stop(): Promise<number> {
    this.#isStopped = true;
    await this.#running;
    await this.#client.end();
    return this.#count;
  }
}
