/** Cancel requests between the workers of one process, whichever of them they reach. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createSecureContext } from 'node:tls';
import { pino } from 'pino';
import { Metrics } from '#router/metrics.ts';
import { CancelRelay } from '#router/session/cancel-relay.ts';
import { Proxies } from '#router/session/proxies.ts';

function worker(number: number, port = 5432): CancelRelay {
  const relay = new CancelRelay({
    worker: number,
    address: '10.0.0.7',
    peers: [],
    proxies: new Proxies([]),
    clientContext: () => createSecureContext(),
    timeoutMs: 1_000,
    metrics: new Metrics(),
    log: pino({ level: 'silent' }),
  });
  relay.start(port);
  return relay;
}

test('a worker passes a cancel on to the worker that gave the key, and to no other', async () => {
  const workers = [worker(0), worker(1), worker(2)];
  const elsewhere = worker(1, 5433);
  const cancelled: string[] = [];
  const session = (name: string) => ({ cancel: () => void cancelled.push(name) });
  try {
    const key = (workers[1] as CancelRelay).keys.issue(session('mine'), 'long');
    for (const relay of [...workers, elsewhere]) relay.keys.issue(session('another'), 'long');
    for (const relay of workers) await relay.take(key, false);
    await elsewhere.take(key, false);
    for (const deadline = performance.now() + 60_000; cancelled.length < 3 && performance.now() < deadline; )
      await sleep(5);
    await sleep(50);
    assert.deepEqual(cancelled, ['mine', 'mine', 'mine']);
    await (workers[0] as CancelRelay).take({ ...key, secret: Buffer.alloc(32) }, false);
    await sleep(50);
    assert.equal(cancelled.length, 3);
  } finally {
    for (const relay of [...workers, elsewhere]) relay.stop();
  }
});
