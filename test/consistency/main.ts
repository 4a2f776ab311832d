/**
 * `npm run test:consistency`: travellers of every level on the real cluster, first with followers as they are, then with followers held
 * back, then with the primary taken away as well; their histories are judged, and the share of causal reads that followers served is told.
 * It wants the cluster for itself.
 */
import { Command, InvalidArgumentError } from 'commander';
import { cachePath } from '#cluster/cache.ts';
import { ensureCluster } from '#cluster/cluster.ts';
import { renderTable } from '../../demo/table.ts';
import { Installation } from '../faults/installation.ts';
import { regions } from '../faults/manifests.ts';
import type { Level } from '../history/entry.ts';
import { ensureIsolationJudge } from '../history/judges/programs.ts';
import { historyTenant } from '../history/workload.ts';
import { disturbed } from './disturbed.ts';
import { FailingOver } from './failing-over.ts';
import { HoldingBack } from './holding-back.ts';
import { type JourneyResult, travel } from './journeys.ts';

/** Of causal reads, while nobody is held back. */
const SHARE_WANTED = 0.9;
const READS_PER_PORTION = 10_000;

interface Options {
  readonly reads: number;
  readonly maxStaleness: number;
  readonly travellers: number;
  readonly seed: number;
  readonly keep?: boolean;
  readonly keepOperator?: boolean;
}

const program = new Command('npm run test:consistency --')
  .description('What each level of reading promises, on the real cluster, with followers held back')
  .option('--reads <number>', 'reads in all: two fifths as they are, two held back, one with failovers', count, 200_000)
  .option('--travellers <number>', 'clients at a time, over all levels', count, 24)
  .option('--max-staleness <ms>', 'of bounded reads', count, 1_000)
  .option('--seed <number>', 'of what they do', count, Math.floor(Date.now() / 1000) % 1_000_000)
  .option('--keep', 'leave the shard on the cluster')
  .option('--keep-operator', 'try what runs on the cluster, not what lies here')
  .action(main);

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number from 1');
  return value;
}

async function main(options: Options): Promise<void> {
  await ensureIsolationJudge();
  const cluster = await ensureCluster();
  await cluster.faults.healAll();
  const installation = new Installation(cluster, { keyspace: 'levels', acknowledgements: 1 });
  process.stdout.write(`${options.reads} reads, seed ${options.seed}\n`);
  try {
    await installation.deploy(progress, { keepOperator: options.keepOperator === true });
    const fifth = options.reads / 5;
    const calm = await journey(installation, options, 'as they are', Math.ceil(2 * fifth));
    const holding = new HoldingBack(installation);
    const held = await disturbed([holding], () => journey(installation, options, 'held back', Math.ceil(2 * fifth)));
    const failing = new FailingOver(installation);
    const lost = await disturbed([new HoldingBack(installation, { isFailingOver: true }), failing], () =>
      journey(installation, options, 'held back, primaries lost', Math.floor(fifth), () => failing.isDone),
    );
    const { asked, byFollowers } = calm.counts.causal;
    const share = byFollowers / asked;
    process.stdout.write(
      `followers were held back ${holding.held} times; ${failing.told.join(', ')}\n` +
        `${(share * 100).toFixed(1)} % of causal reads were served by followers while none was held back (${asked} asked)\n`,
    );
    const results = [calm, held, lost];
    const isWell =
      results.every(({ verdicts }) => verdicts.every(({ valid }) => valid === true)) &&
      results.every(({ counts }) => counts.strong.byFollowers === 0);
    const isTried = holding.held > 0 && failing.failovers > 0;
    process.exitCode = isWell && isTried && share > SHARE_WANTED ? 0 : 1;
    process.stdout.write(process.exitCode === 0 ? 'every promise was kept\n' : 'FAILED\n');
  } finally {
    if (options.keep !== true) await installation.remove();
  }
}

async function journey(
  installation: Installation,
  { travellers, maxStaleness, seed }: Options,
  followers: string,
  reads: number,
  isEnough: () => boolean = () => true,
): Promise<JourneyResult> {
  const startedAt = performance.now();
  const result = await travel({
    doors: regions.map((region) => installation.door(region)),
    tenant: historyTenant,
    run: 1 + (Math.floor(Date.now() / 1000) % 100_000_000),
    seed,
    folder: cachePath('consistency', 'histories', followers.replaceAll(/[^a-z]+/g, '-')),
    travellers: {
      strong: Math.max(1, Math.round(travellers / 8)),
      causal: Math.max(1, Math.round(travellers / 2)),
      bounded: Math.max(1, Math.round(travellers / 4)),
      eventual: Math.max(1, Math.round(travellers / 8)),
    },
    maxStalenessMs: maxStaleness,
    reads,
    isEnough,
    readsPerPortion: READS_PER_PORTION,
    told: (done) => progress(`${done} of ${reads} reads, followers ${followers}`),
  });
  const seconds = (performance.now() - startedAt) / 1000;
  const clear = process.stderr.isTTY ? '\r\x1b[K' : '';
  process.stdout.write(
    `${clear}followers ${followers}: ${Object.values(result.counts).reduce((sum, { reads: done }) => sum + done, 0)} reads in ${seconds.toFixed(0)} s, ${result.failed} operations failed, ${result.unknown} of unknown outcome\n`,
  );
  const rows = (['strong', 'causal', 'bounded', 'eventual'] satisfies Level[]).map((level) => {
    const { reads: done, asked, byFollowers } = result.counts[level];
    const judged = result.verdicts.filter(({ judge }) => judge.includes(`, ${level},`));
    const share = asked === 0 ? '-' : `${((byFollowers / asked) * 100).toFixed(1)} %`;
    return [
      level,
      String(done),
      share,
      String(judged.length),
      String(judged.filter(({ valid }) => valid !== true).length),
    ];
  });
  process.stdout.write(`${renderTable(['level', 'reads', 'by followers', 'verdicts', 'not valid'], rows)}\n`);
  for (const { judge, valid, findings } of result.verdicts) {
    if (valid === true) continue;
    process.stdout.write(`${judge}: ${valid === 'unknown' ? 'unknown' : 'violated'}\n`);
    for (const finding of findings.slice(0, 5)) process.stdout.write(`  ${finding.slice(0, 2_000)}\n`);
  }
  return result;
}

let last = 0;
function progress(what: string): void {
  if (!process.stderr.isTTY || performance.now() - last < 200) return;
  last = performance.now();
  process.stderr.write(`\r\x1b[K${what.slice(0, 150)}`);
}

await program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
});
