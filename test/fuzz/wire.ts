/**
 * `npm run fuzz:wire -- --seed N --count M`: clients that say wrong things, in wrong orders, in pieces, to a router in this process in
 * front of real Postgres. The seed is printed; the same seed says the same things. Exit code 1 with the first that broke something.
 */
import { parseArgs } from 'node:util';
import { RouterKeyspace } from '#test/integration/router-keyspace.ts';
import { Campaign } from './wire/campaign.ts';

const { values } = parseArgs({
  options: { seed: { type: 'string' }, count: { type: 'string', default: '20000' } },
});
const seed = Number(values.seed ?? Date.now() % 1_000_000);
const count = Number(values.count);
const say = (line: string): void => void process.stdout.write(`${line}\n`);
say(`seed ${seed}, ${count} conversations`);
const keyspace = await RouterKeyspace.start();
// No container stays behind.
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void keyspace.stop().finally(() => process.exit(1)));
const startedMs = performance.now();
try {
  const result = await Campaign.run(keyspace, { seed, count, say });
  say(`${JSON.stringify(result)} in ${((performance.now() - startedMs) / 1_000).toFixed(0)} s`);
} catch (error) {
  say(error instanceof Error ? (error.stack ?? error.message) : String(error));
  process.exitCode = 1;
} finally {
  await keyspace.stop();
}
