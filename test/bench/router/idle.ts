/**
 * Memory of the router with clients that say nothing: right after their log-in, after a statement each, while they go on saying nothing,
 * and when as many have come and gone several times.
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, createSecureContext, type SecureContext } from 'node:tls';
import { queryMessage } from '#router/wire/client-messages.ts';
import { startupPacket } from '#router/wire/startup.ts';
import { RawClient } from '#test/integration/router-raw-client.ts';
import { type BenchSite, database, password, ports, roles, sizes } from './keyspace.ts';
import { residentBytes } from './processor.ts';
import type { RouterProgram } from './router-program.ts';

export interface IdleOptions {
  readonly clients: number;
  /** How often all of them come and go. */
  readonly turns: number;
  readonly tls: boolean;
}

/** Log-ins, or statements, under way at once. */
const together = 32;
/** Addresses on loopback to come from: there are more clients than an address has ports to spare. */
const addresses = 8;

export async function measureIdle(site: BenchSite, router: RouterProgram, options: IdleOptions): Promise<void> {
  const context = options.tls ? createSecureContext({ ca: site.caBundle }) : undefined;
  const clients: RawClient[] = [];
  const before = await residentBytes(router.processId);
  const line = async (what: string, count = clients.length): Promise<void> => {
    const bytes = await residentBytes(router.processId);
    const each = count === 0 ? '' : `, ${((bytes - before) / count / 1024).toFixed(1)} KB a client`;
    const metrics = await router.metrics();
    const parts = ['heap_used', 'heap_total', 'heap_external'].map((name) =>
      ((metrics.get(`${name}_bytes`) ?? 0) / 2 ** 20).toFixed(0),
    );
    console.log(
      `${what}: ${(bytes / 2 ** 20).toFixed(1)} MB resident${each} (heap ${parts[0]} of ${parts[1]}, outside it ${parts[2]}, all but the heap ${((bytes - (metrics.get('heap_total_bytes') ?? 0)) / 2 ** 20).toFixed(0)})`,
    );
  };
  const logInUpTo = async (count: number): Promise<void> => {
    while (clients.length < count) {
      const some = Math.min(together, count - clients.length);
      clients.push(...(await Promise.all(Array.from({ length: some }, (_, index) => logIn(index, context)))));
    }
  };
  try {
    await line('no client');
    for (const part of [0.1, 0.5, 1]) {
      await logInUpTo(Math.round(options.clients * part));
      await sleep(2_000);
      await line(`${clients.length} clients that have logged in`);
    }
    for (let from = 0; from < clients.length; from += together)
      await Promise.all(clients.slice(from, from + together).map(runOne));
    await sleep(2_000);
    await line(`${clients.length} clients that have run a statement`);
    await sleep(20_000);
    await line(`${clients.length} clients, 20 s later`);
    await leave(clients, router);
    await line('none of them left');
    for (let turn = 1; turn <= options.turns; turn++) {
      await logInUpTo(options.clients);
      for (let from = 0; from < clients.length; from += together)
        await Promise.all(clients.slice(from, from + together).map(runOne));
      await line(`turn ${turn}: ${clients.length} clients`);
      await leave(clients, router);
      await line(`turn ${turn}: none of them left`);
    }
  } finally {
    for (const { socket } of clients) socket.destroy();
  }
}

async function leave(clients: RawClient[], router: RouterProgram): Promise<void> {
  for (const { socket } of clients.splice(0)) socket.destroy();
  while ((await router.metrics()).get('clients') !== 0) await sleep(100);
  await sleep(2_000);
}

let asked = 0;
async function runOne(client: RawClient): Promise<void> {
  asked += 1;
  const aid = 1 + (asked % sizes.accounts);
  client.send(queryMessage(`select balance from accounts where tenant_id = 1 and aid = ${aid}`));
  await client.until('Z');
}

async function logIn(index: number, context: SecureContext | undefined): Promise<RawClient> {
  const localAddress = `127.0.0.${1 + (index % addresses)}`;
  const tcp = connect({ host: '127.0.0.1', port: ports.router, noDelay: true, localAddress });
  let socket: Socket = tcp;
  if (context !== undefined)
    socket = connectTls({
      socket: tcp,
      secureContext: context,
      servername: 'localhost',
      ALPNProtocols: ['postgresql'],
    });
  await new Promise((resolve, reject) =>
    socket.once(context === undefined ? 'connect' : 'secureConnect', resolve).once('error', reject),
  );
  const client = RawClient.plain(socket);
  client.send(startupPacket({ user: roles.fixed, database }));
  await client.authenticate(password);
  return client;
}
