/** A client that doesn't read, or doesn't stop talking: what the router takes in for it ends at a fixed window, however much there is. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { queryMessage } from '#router/wire/client-messages.ts';
import { waitFor } from './router-assertions.ts';
import { database, password, RouterKeyspace, type TestRouter } from './router-keyspace.ts';
import { RouterProcess } from './router-process.ts';
import { RawClient, sqlstateOf, textsOf } from './router-raw-client.ts';

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

const drained = (client: RawClient, ms: number): Promise<boolean> =>
  Promise.race([
    new Promise<boolean>((resolve) => client.socket.once('drain', () => resolve(true))),
    sleep(ms, false, { ref: false }),
  ]);

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

describe('clients that begin long messages and do not end them', () => {
  test('fill no more than the worker may hold; who comes too late is told, and others live', async () => {
    const own = await keyspace.router('eu', { messageBytes: 8 * 1024 * 1024 });
    const login = (): Promise<RawClient> =>
      RawClient.login(own.port, keyspace.ca.bundle, { user: 'acme_app', password, database });
    /** A query of that many bytes, of which the terminator is missing. */
    const begun = (megabytes: number): Buffer =>
      queryMessage(`select 1 /* ${'z'.repeat(megabytes * 1024 * 1024)} */`).subarray(0, -1);
    const holding = await login();
    holding.send(begun(3));
    await waitFor(async () => own.worker.metrics.get('client_bytes_total') > 3 * 1024 * 1024);
    const late = await login();
    late.send(begun(3));
    assert.equal(sqlstateOf(await late.next('E')), '53200');
    await late.closed();
    const other = await login();
    other.send(queryMessage(`select 1 /* ${'z'.repeat(200_000)} */`));
    assert.equal(textsOf(await other.until('Z')), 'TDCZI');
    // What goes gives back.
    holding.send(Buffer.from([0]));
    assert.equal(textsOf(await holding.until('Z')), 'TDCZI');
    other.send(begun(3), Buffer.from([0]));
    assert.equal(textsOf(await other.until('Z')), 'TDCZI');
    other.end();
    holding.end();
  });
});

/**
 * All of a process, as the kernel counts it, at its most: nothing that came and went between two looks is missed. What has been taken
 * and not given back by then is in it, too, so it is far above what is held.
 */
describe('many clients that do not read', () => {
  const [port, httpPort] = [26_438, 26_439];
  const clients = 30;
  let program: RouterProcess;
  before(async () => {
    program = await RouterProcess.start(keyspace, { port, httpPort });
  });
  after(() => program?.kill());

  async function peakMegabytes(): Promise<number> {
    const status = await readFile(`/proc/${program.processId}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
  }

  for (const [what, bytes, each] of [
    ['rows', queryMessage(`select repeat('x', 20000) from generate_series(1, 5000)`), 1],
    ['COPY', queryMessage(`copy (select repeat('x', 20000) from generate_series(1, 5000)) to stdout`), 1],
    // A megabyte of each may wait for its turn; more isn't read.
    ['pipelines', queryMessage(`select repeat('y', 20000) /* ${'z'.repeat(20_000)} */`), 80],
  ] as const)
    test(`take a fixed window each, and no more: ${what}`, async () => {
      const login = () => RawClient.login(port, keyspace.ca.bundle, { user: 'acme_app', password, database });
      const all = await Promise.all(Array.from({ length: clients }, login));
      const before = await peakMegabytes();
      for (const client of all) client.socket.pause();
      for (const client of all) client.send(...Array.from({ length: each }, () => bytes));
      // Stands still: whoever has a connection has filled its window, and the rest wait for one.
      let taken = -1;
      while (taken !== (taken = await program.metric('server_bytes_total'))) await sleep(1_000);
      const grown = (await peakMegabytes()) - before;
      assert.ok(
        grown < clients * 4,
        `${grown} MB for ${clients} clients, who asked for ${(clients * 100).toFixed(0)} MB`,
      );
      for (const client of all) client.end();
      await waitFor(async () => (await program.metric('clients')) === 0);
    });
});
