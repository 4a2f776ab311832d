/**
 * How much one tunnel carries: `npm run bench:tunnel`. A source in the place of Postgres' walsender, the primary's end of
 * the tunnel, the follower's end, and a reader in the place of the WAL receiver, each in a process of its own as they
 * are in life, over loopback with mutual TLS. Prints the median of several rounds; to reach: 200 MB/s.
 * On a machine with two cores the four share them, while in life two machines do: the figure is a lower bound.
 */
import { fork } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkCredentials } from '#agent/tls/credentials.ts';
import { TunnelServer } from '#agent/tunnel/server.ts';
import { writeStartupPacket } from '#agent/tunnel/startup-packet.ts';
import { Upstream } from '#agent/tunnel/upstream.ts';
import { makeCa } from '#operator/pki/authority.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';

const MEGABYTE = 1_000_000;
const TO_REACH_MB_PER_S = 200;
const place = { namespace: 'bench', keyspace: 'bench' };
const primary = { name: 'bench-a-0', incarnation: 'aaaaaaaaaaaaaaaa' };
const follower = { name: 'bench-b-0', incarnation: 'bbbbbbbbbbbbbbbb' };
const quiet = { info: () => {}, warn: (details: object, message: string) => console.error(message, details) };

interface Part {
  readonly role: 'source' | 'server' | 'upstream' | 'reader';
  readonly folder: string;
  readonly pem: { readonly ca: string; readonly certificate: string; readonly key: string };
  readonly port: number;
  readonly bytes: number;
}

const sourceSocket = (folder: string): string => join(folder, 'source');
const upstreamSocket = (folder: string): string => join(folder, 'upstream');

/** Sends `bytes` to each connection as fast as it takes them, once its first packet has come. */
function runSource({ folder, bytes }: Part): void {
  // CopyData messages as a walsender sends them: at most 128 kB of WAL each.
  const message = Buffer.alloc(1 + 4 + 25 + 128 * 1024, 0x5a);
  message.write('d', 0, 'latin1');
  message.writeInt32BE(message.length - 1, 1);
  createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('data', () => {
      let left = bytes;
      const send = (): void => {
        while (left > 0) {
          const chunk = left >= message.length ? message : message.subarray(0, left);
          left -= chunk.length;
          if (!socket.write(chunk)) {
            socket.once('drain', send);
            return;
          }
        }
        socket.end();
      };
      send();
    });
  }).listen(sourceSocket(folder), () => process.send?.({ ready: 0 }));
}

async function runServer({ folder, pem }: Part): Promise<void> {
  const server = new TunnelServer({
    place,
    credentials: checkCredentials(pem.ca, pem.certificate, pem.key, primary.name),
    postgresSocket: sourceSocket(folder),
    context: () => ({
      member: primary,
      shardUid: 'bench',
      epoch: 1,
      generation: 1,
      isPrimary: true,
      isReady: true,
      peers: [follower],
    }),
    log: quiet,
  });
  process.send?.({ ready: await server.listen(0, '127.0.0.1') });
}

async function runUpstream({ folder, pem, port }: Part): Promise<void> {
  const credentials = checkCredentials(pem.ca, pem.certificate, pem.key, follower.name);
  const upstream = new Upstream({
    place,
    credentials: () => credentials,
    socketPath: upstreamSocket(folder),
    log: quiet,
  });
  await upstream.listen();
  upstream.aim({
    address: '127.0.0.1',
    port,
    to: primary,
    from: follower,
    shardUid: 'bench',
    epoch: 1,
    generation: 1,
    systemIdentifier: '',
    isCloning: false,
  });
  process.send?.({ ready: 0 });
}

/** One connection, read to its end; the time runs from the first byte. */
async function runReader({ folder, bytes }: Part): Promise<void> {
  const socket: Socket = connect(upstreamSocket(folder));
  socket.write(
    writeStartupPacket(
      new Map([
        ['user', 'bench'],
        ['replication', 'true'],
      ]),
    ),
  );
  let received = 0;
  let startedAt = 0;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    if (startedAt === 0) startedAt = performance.now();
    received += chunk.length;
  }
  if (received !== bytes) throw new Error(`${received} bytes came of ${bytes}`);
  process.send?.({ ready: received / MEGABYTE / ((performance.now() - startedAt) / 1000) });
}

/** Starts a part in a process of its own and waits for its word. */
function startPart(part: Part): { readonly ready: Promise<number>; readonly stop: () => void } {
  const child = fork(new URL(import.meta.url), ['part', JSON.stringify(part)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const ready = new Promise<number>((resolve, reject) => {
    child.once('message', (message) => resolve((message as { ready: number }).ready));
    child.once('exit', (code) => reject(new Error(`${part.role} ended with ${code}`)));
  });
  return { ready, stop: () => void child.kill('SIGKILL') };
}

async function measure(rounds: number, megabytes: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-bench-'));
  const ca = await makeCa(place, new Date());
  const pemOf = async (member: string): Promise<Part['pem']> => {
    const identity = { kind: 'member' as const, member, ...place };
    const pair = await issueCertificate(ca, { identity, dnsNames: [], ipAddresses: [] }, new Date());
    return { ca: ca.bundle, certificate: pair.certificate, key: pair.privateKey };
  };
  const bytes = megabytes * MEGABYTE;
  const common = { folder, port: 0, bytes, pem: await pemOf(primary.name) };
  const source = startPart({ ...common, role: 'source' });
  const server = startPart({ ...common, role: 'server' });
  await source.ready;
  const port = await server.ready;
  const upstream = startPart({ ...common, role: 'upstream', pem: await pemOf(follower.name), port });
  try {
    await upstream.ready;
    const results: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      const reader = startPart({ ...common, role: 'reader' });
      const rate = await reader.ready;
      reader.stop();
      results.push(rate);
      process.stdout.write(`round ${round + 1}: ${rate.toFixed(0)} MB/s\n`);
    }
    const median = results.toSorted((a, b) => a - b)[Math.floor(results.length / 2)] ?? 0;
    const verdict = median >= TO_REACH_MB_PER_S ? 'reached' : 'NOT reached';
    process.stdout.write(
      `one tunnel, loopback, ${availableParallelism()} cores, ${megabytes} MB a round: median ${median.toFixed(0)} MB/s (to reach ${TO_REACH_MB_PER_S}: ${verdict})\n`,
    );
    if (process.env['MERIDIAN_BENCH_OUT'] !== undefined) {
      await writeFile(process.env['MERIDIAN_BENCH_OUT'], JSON.stringify({ medianMegabytesPerSecond: median, results }));
    }
    process.exitCode = median >= TO_REACH_MB_PER_S ? 0 : 1;
  } finally {
    for (const part of [upstream, server, source]) part.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

if (process.argv[2] === 'part') {
  const part = JSON.parse(process.argv[3] ?? '') as Part;
  const run = { source: runSource, server: runServer, upstream: runUpstream, reader: runReader }[part.role];
  await run(part);
} else {
  const [rounds, megabytes] = [process.argv[2] ?? '5', process.argv[3] ?? '1000'].map(Number);
  await measure(rounds ?? 5, megabytes ?? 1000);
}
