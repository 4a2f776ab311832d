/**
 * Consistency levels side by side, with a distance between regions: routers and clients are in one region with a follower, the primary
 * (Postgres and agent) is in another, reached through relays that hold every byte back for half the round trip. Nine reads to a write,
 * in sessions; reads by themselves and writes by themselves are counted apart, and how many reads a follower served.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { consistencyLevels } from '#router/map/map.ts';
import { database, password, RouterKeyspace } from '#test/integration/router-keyspace.ts';
import { RouterProcess } from '#test/integration/router-process.ts';

export interface LevelsOptions {
  readonly clients: number;
  readonly seconds: number;
  /** A round trip between regions. */
  readonly distanceMs: number;
}

const readsPerWrite = 9;
const accounts = 10_000;
const [port, httpPort] = [26_520, 26_521];

export async function measureLevels({ clients, seconds, distanceMs }: LevelsOptions): Promise<void> {
  const keyspace = await RouterKeyspace.start();
  const relays: Relay[] = [];
  let program: RouterProcess | undefined;
  try {
    await keyspace.asOperator('one-eu-0', (client) =>
      client.query(
        `set role meridian_owner; insert into accounts (tenant_id, id) select 'acme', n from generate_series(1, ${accounts}) n; reset role`,
      ),
    );
    // The log comes as late as everything else between regions; the follower's own clock is the primary's here.
    await keyspace.asOperator('one-ap-0', async (client) => {
      await client.query(`alter system set recovery_min_apply_delay = '${distanceMs / 2}ms'`);
      await client.query('select pg_reload_conf()');
    });
    const map = keyspace.map({ poolSize: 20 });
    const members = map.members.map(async (member) => {
      if (member.region === 'ap') return member;
      const far = await Relay.start({ host: member.address, port: 5432 }, distanceMs / 2);
      const agent = await Relay.start({ host: '127.0.0.1', port: member.agentPort ?? 0 }, distanceMs / 2);
      relays.push(far, agent);
      return { ...member, address: '127.0.0.1', port: far.port, agentPort: agent.port };
    });
    await keyspace.writeMap({ ...map, members: await Promise.all(members) });
    program = await RouterProcess.start(keyspace, { port, httpPort, environment: { MERIDIAN_REGION: 'ap' } });
    console.log(`levels: ${distanceMs} ms between regions, ${clients} clients, ${readsPerWrite} reads to a write`);
    console.log('level        reads/s   p50 ms   p99 ms  writes/s  p50 ms   p99 ms  reads by followers');
    for (const level of consistencyLevels) console.log(await measure(keyspace, program, level, clients, seconds));
  } finally {
    program?.kill();
    for (const relay of relays) relay.stop();
    await keyspace.stop();
  }
}

async function measure(
  keyspace: RouterKeyspace,
  program: RouterProcess,
  level: string,
  clients: number,
  seconds: number,
): Promise<string> {
  const [reads, writes]: [number[], number[]] = [[], []];
  const run = { isOver: false };
  const work = async (client: pg.Client): Promise<void> => {
    for (let turn = 0; !run.isOver; turn++) {
      const isWrite = turn % (readsPerWrite + 1) === readsPerWrite;
      const values = ['acme', 1 + Math.floor(Math.random() * accounts)];
      const startedAt = performance.now();
      if (isWrite)
        await client.query({
          name: 'write',
          text: 'update accounts set balance = balance + 1 where tenant_id = $1 and id = $2',
          values,
        });
      else
        await client.query({
          name: 'read',
          text: 'select balance from accounts where tenant_id = $1 and id = $2',
          values,
        });
      (isWrite ? writes : reads).push(performance.now() - startedAt);
    }
  };
  const sessions = await Promise.all(
    Array.from({ length: clients }, async () => {
      const client = new pg.Client({
        host: 'localhost',
        port: program.port,
        user: 'acme_app',
        password,
        database,
        ssl: { ca: keyspace.ca.bundle },
        options: `-c meridian.consistency=${level}`,
      });
      await client.connect();
      return client;
    }),
  );
  const running = sessions.map(work);
  await sleep(1_000);
  for (const list of [reads, writes]) list.length = 0;
  const before = await program.metric('reads_on_followers_total');
  const startedAt = performance.now();
  await sleep(seconds * 1_000);
  const tookS = (performance.now() - startedAt) / 1_000;
  const byFollowers = (await program.metric('reads_on_followers_total')) - before;
  const counts = [...reads];
  run.isOver = true;
  await Promise.all(running);
  await Promise.all(sessions.map((client) => client.end()));
  const column = (value: number, digits: number): string => value.toFixed(digits).padStart(8);
  const part = (list: readonly number[]): string => {
    const sorted = list.toSorted((one, other) => one - other);
    const at = (share: number): number => sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
    return [column(sorted.length / tookS, 0), column(at(0.5), 1), column(at(0.99), 1)].join(' ');
  };
  return `${level.padEnd(10)} ${part(counts)} ${part(writes)} ${((100 * byFollowers) / counts.length).toFixed(1).padStart(10)} %`;
}

/** Passes bytes on, each way, so much later than they came. */
class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(to: { readonly host: string; readonly port: number }, lateMs: number): Promise<Relay> {
    const server = createServer({ noDelay: true });
    const relay = new Relay(server);
    server.on('connection', (near: Socket) => {
      const far = connect({ ...to, noDelay: true });
      relay.#sockets.add(near).add(far);
      delayed(near, far, lateMs);
      delayed(far, near, lateMs);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return relay;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('it does not listen');
    return address.port;
  }

  stop(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

function delayed(from: Socket, to: Socket, lateMs: number): void {
  from.on('data', (chunk: Buffer) => setTimeout(() => to.write(chunk), lateMs));
  from.on('end', () => setTimeout(() => to.end(), lateMs));
  from.on('error', () => to.destroy());
  from.on('close', () => setTimeout(() => to.destroy(), lateMs));
}
