/**
 * `npm run fuzz:taint [-- --clients 1000 --responses 2000000 --seed N --minutes 60 --only "setting,read"]`: no byte of one client at
 * another's, however much goes wrong. Prints its seed; ends with 1 at the first foreign byte, at a stall, where something is left over,
 * or where it didn't come to the responses it was to look through. Needs Docker.
 */
import { parseArgs } from 'node:util';
import { RouterKeyspace } from '../integration/router-keyspace.ts';
import { expectNothingLeft, prepareTaint, runTaint, type TaintCounts } from './taint/run.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    clients: { type: 'string', default: '1000' },
    responses: { type: 'string', default: '2000000' },
    minutes: { type: 'string', default: '120' },
    only: { type: 'string', default: '' },
  },
});
const seed = Number(values.seed);
const clients = Number(values.clients);
const startedMs = performance.now();
const say = (counts: TaintCounts): void =>
  console.log(`${Math.round((performance.now() - startedMs) / 1_000)} s: ${JSON.stringify(counts)}`);
console.log(`seed ${seed}, ${clients} clients`);
const keyspace = await RouterKeyspace.start();
// No container stays behind.
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void keyspace.stop().finally(() => process.exit(1)));
try {
  await keyspace.writeMap(keyspace.map({ maxClients: clients + 50, poolSize: 10, admins: { any_app: 'stats' } }));
  const router = await keyspace.router('eu');
  await prepareTaint(router);
  const responses = Number(values.responses);
  const counts = await runTaint(keyspace, router, {
    clients,
    responses,
    maxMs: Number(values.minutes) * 60_000,
    seed,
    only: values.only === '' ? [] : values.only.split(','),
    progress: say,
    failed: (error) => console.log(error),
  });
  say(counts);
  await expectNothingLeft(router);
  console.log('not one foreign byte, nothing left over');
  if (counts.responses < responses) process.exitCode = 1;
} catch (error) {
  console.log(error);
  process.exitCode = 1;
} finally {
  await keyspace.stop();
}
