/** Several workers of one router, as the admin database sees them. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { AdminBus, type Question } from '#router/admin/bus.ts';
import type { WorkerView } from '#router/admin/view.ts';

const started: AdminBus[] = [];
after(() => {
  for (const bus of started) bus.stop();
});

let routers = 0;
/** Where all answer it is never waited for. */
let timeoutMs = 30_000;
function busesOf(
  workers: number,
  answering: number,
  answer?: (worker: number, question: Question) => Promise<WorkerView>,
): AdminBus[] {
  const name = `test ${process.pid} ${(routers += 1)}`;
  return Array.from({ length: answering }, (_, worker) => {
    const bus = new AdminBus({
      worker,
      workers,
      timeoutMs,
      answer: answer === undefined ? () => Promise.resolve(viewOf(worker)) : (question) => answer(worker, question),
    });
    bus.start(name);
    started.push(bus);
    return bus;
  });
}
const viewOf = (worker: number): WorkerView => ({ worker, servers: worker }) as unknown as WorkerView;
const ask = async (bus: AdminBus | undefined): Promise<number[]> =>
  ((await bus?.ask({ kind: 'view', withSockets: false })) ?? []).map(({ worker }) => worker);

test('a question reaches every worker, whoever asks, and answers keep their order', async () => {
  const buses = busesOf(3, 3);
  assert.deepEqual(await Promise.all(buses.map(ask)), [
    [0, 1, 2],
    [0, 1, 2],
    [0, 1, 2],
  ]);
});

test('what is to be done is done by all', async () => {
  const done: string[] = [];
  const [first] = busesOf(2, 2, (worker, question) => {
    if (question.kind === 'act') done.push(`${worker} ${question.action}`);
    return Promise.resolve(viewOf(worker));
  });
  await first?.ask({ kind: 'act', action: 'pause' });
  assert.deepEqual(done.toSorted(), ['0 pause', '1 pause']);
});

test('a worker that does not answer, or fails to, is left out after a while; another router is never heard', async () => {
  timeoutMs = 300;
  const [silent] = busesOf(2, 1);
  busesOf(2, 2);
  assert.deepEqual(await ask(silent), [0]);
  const [first] = busesOf(2, 2, (worker) =>
    worker === 1 ? Promise.reject(new Error('no')) : Promise.resolve(viewOf(worker)),
  );
  assert.deepEqual(await ask(first), [0]);
});

test('the only worker asks nobody', async () => {
  assert.deepEqual(await ask(busesOf(1, 1)[0]), [0]);
});
