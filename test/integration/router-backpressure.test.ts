/** A client that doesn't read, or doesn't stop talking: what the router takes in for it ends at a fixed window, however much there is. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { queryMessage } from '#router/wire/client-messages.ts';
import { waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RawClient, textsOf } from './router-raw-client.ts';

let keyspace: RouterKeyspace;
let router: TestRouter;
before(async () => {
  keyspace = await RouterKeyspace.start();
  router = await keyspace.router('eu');
});
after(() => keyspace?.stop());

/** What may lie between the two ends: buffers of the kernel on the way to the client (some MB each on loopback), and the router's own. */
const windowBytes = 24e6;
const login = (): Promise<RawClient> =>
  RawClient.login(router.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
const taken = (name: 'server_bytes_total' | 'client_bytes_total'): number => router.worker.metrics.get(name);
const heldBytes = (): number => process.memoryUsage().arrayBuffers + process.memoryUsage().external;

/** Waits until a counter has stood still for a while. */
async function settled(name: Parameters<typeof taken>[0]): Promise<number> {
  for (let before = -1; ; ) {
    const now = taken(name);
    if (now === before) return now;
    before = now;
    await sleep(500);
  }
}

describe('a client that does not read', () => {
  for (const [what, sql] of [
    ['500 MB in 10,000 rows', `select repeat('x', 50000) from generate_series(1, 10000)`],
    ['one row of 200 MB', `select repeat('x', 200000000)`],
    ['500 MB of COPY', `copy (select repeat('x', 50000) from generate_series(1, 10000)) to stdout`],
  ] as const)
    test(`is sent no more than a window of ${what}, and costs nobody else`, async () => {
      const client = await login();
      client.socket.pause();
      const [bytesBefore, heldBefore] = [taken('server_bytes_total'), heldBytes()];
      client.send(queryMessage(sql));
      await waitFor(async () => taken('server_bytes_total') > bytesBefore + 100_000);
      const sent = (await settled('server_bytes_total')) - bytesBefore;
      assert.ok(sent < windowBytes, `${sent} bytes were taken from the member`);
      assert.ok(heldBytes() - heldBefore < 2 * windowBytes, `${heldBytes() - heldBefore} bytes are held`);
      const other = await login();
      other.send(queryMessage('select 1'));
      assert.equal(textsOf(await other.until('Z')), 'TDCZI');
      other.end();
      client.end();
      await waitFor(async () => router.worker.gauges['backends_busy'] === 0);
    });
});

describe('a client that talks on without hearing an answer', () => {
  for (const [what, sql, times] of [
    // Text that is only read, so that much is said with few statements.
    ['a member', `select repeat('y', 20000) /* ${'z'.repeat(20_000)} */`, 50],
    ['the router itself', 'show meridian.tenant', 5_000],
  ] as const)
    test(`is not read any more when a window of what ${what} would answer is full`, async () => {
      const client = await login();
      client.socket.pause();
      const before = taken('client_bytes_total');
      const held = heldBytes();
      const burst = Buffer.concat(Array.from({ length: times }, () => queryMessage(sql)));
      let isTaken = true;
      let said = 0;
      while (isTaken && said < 500e6) {
        isTaken = client.socket.write(burst) || (await drained(client, 2_000));
        said += burst.length;
      }
      assert.ok(!isTaken, `${said} bytes were taken`);
      assert.ok(
        (await settled('client_bytes_total')) - before < windowBytes,
        `${taken('client_bytes_total') - before} bytes`,
      );
      assert.ok(heldBytes() - held < 2 * windowBytes + burst.length, `${heldBytes() - held} bytes are held`);
      client.end();
      await waitFor(async () => router.worker.metrics.get('clients') === 0);
    });
});

const drained = (client: RawClient, ms: number): Promise<boolean> =>
  Promise.race([
    new Promise<boolean>((resolve) => client.socket.once('drain', () => resolve(true))),
    sleep(ms, false, { ref: false }),
  ]);
