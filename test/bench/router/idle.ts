/** Memory that clients take which have logged in and say nothing, and whether it grows while they go on saying nothing. */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { startupPacket } from '#router/wire/startup.ts';
import { RawClient } from '#test/integration/router-raw-client.ts';
import { database, password, ports, roles } from './keyspace.ts';
import { residentBytes } from './processor.ts';
import type { RouterProgram } from './router-program.ts';

/** Log-ins under way at once. */
const together = 20;

export async function measureIdle(router: RouterProgram, count: number): Promise<void> {
  const clients: RawClient[] = [];
  const before = await residentBytes(router.processId);
  const line = async (what: string): Promise<void> => {
    const bytes = await residentBytes(router.processId);
    const each = clients.length === 0 ? 0 : (bytes - before) / clients.length / 1024;
    console.log(`${what}: ${(bytes / 2 ** 20).toFixed(1)} MB resident, ${each.toFixed(1)} KB a client`);
  };
  try {
    await line('no client');
    for (const part of [0.1, 0.5, 1]) {
      while (clients.length < count * part)
        clients.push(...(await Promise.all(Array.from({ length: together }, logIn))));
      await sleep(2_000);
      await line(`${clients.length} idle clients`);
    }
    await sleep(15_000);
    await line(`${clients.length} idle clients, 15 s later`);
  } finally {
    for (const { socket } of clients) socket.destroy();
  }
}

async function logIn(): Promise<RawClient> {
  const socket = connect({ host: '127.0.0.1', port: ports.router, noDelay: true });
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  const client = RawClient.plain(socket);
  client.send(startupPacket({ user: roles.fixed, database }));
  await client.authenticate(password);
  return client;
}
