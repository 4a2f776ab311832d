/**
 * `npm run fuzz:routing [-- --seed N --count M --only I]`: random statements through a router before two shards and on one plain
 * Postgres with all rows: the same rows, or a refusal. Prints its seed; ends with 1 where any answer was wrong, or where so much is
 * refused that nothing is shown. Needs Docker.
 */
import { parseArgs } from 'node:util';
import { Laboratory } from './routing/laboratory.ts';
import { minimumAnswered, runFuzz } from './routing/run.ts';
import { fuzzStatement } from './routing/statements.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 100_000) },
    count: { type: 'string', default: '20000' },
    only: { type: 'string' },
    lanes: { type: 'string', default: '4' },
  },
});
const seed = Number(values.seed);
console.log(`seed ${seed}`);
const laboratory = await Laboratory.start();
// No container stays behind.
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void laboratory.stop().finally(() => process.exit(1)));
try {
  if (values.only !== undefined) {
    const statement = fuzzStatement(seed * 100_003 + Number(values.only));
    console.log(JSON.stringify(statement, undefined, 2));
    const verdict = await laboratory.check(statement, 0);
    console.log(JSON.stringify(verdict, undefined, 2));
    process.exitCode = verdict.kind === 'wrong' ? 1 : 0;
  } else {
    const result = await runFuzz(laboratory, { seed, count: Number(values.count), lanes: Number(values.lanes) });
    console.log([...result.lines, ...result.failures].join('\n'));
    const share = result.answered / Math.max(1, result.answered + result.refused);
    console.log(
      `answered ${(share * 100).toFixed(1)} % of what could be answered (at least ${minimumAnswered * 100} %)`,
    );
    process.exitCode = result.failures.length > 0 || share < minimumAnswered ? 1 : 0;
  }
} finally {
  await laboratory.stop();
}
