/**
 * `npm run test:faults`: every fault on the real cluster, round after round, with writers and readers at work and their
 * histories judged. It says how long it will take, and goes on where it was broken off. It wants the cluster for itself.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import { cachePath } from '#cluster/cache.ts';
import { ensureCluster } from '#cluster/cluster.ts';
import { renderTable } from '../../demo/table.ts';
import { ensureIsolationJudge, ensureLinearizabilityJudge } from '../history/judges/programs.ts';
import { catalogue, faultNamed } from './catalogue.ts';
import { keepEvidence } from './evidence.ts';
import type { Fault } from './fault.ts';
import { Installation } from './installation.ts';
import { regions } from './manifests.ts';
import { appendResult, percentile, readResults, startAnew } from './results.ts';
import { type RoundResult, runRound } from './round.ts';

const DEPLOY_SECONDS = 60;
/** Beside the fault itself: settling, warming up, healing, judging. */
const OVERHEAD_SECONDS = 30;
const BOUNDED_MEGABYTES = 512;
const LAST_PATIENCE_MS = 5_000;
const LONG = 'api-paused-five-minutes';

interface Options {
  readonly rounds: number;
  readonly only?: readonly string[];
  readonly list?: boolean;
  readonly fresh?: boolean;
  readonly keep?: boolean;
  readonly keepOperator?: boolean;
}

const program = new Command('npm run test:faults --')
  .description('Every fault on the real cluster, with live histories that are judged')
  .option('--rounds <number>', 'rounds of each fault', count, 1)
  .option('--only <names...>', 'these faults only')
  .option('--list', 'say which faults there are')
  .option('--fresh', 'begin anew instead of going on with the last run')
  .option('--keep', 'leave the shard on the cluster')
  .option('--keep-operator', 'try what runs on the cluster, not what lies here')
  .action(main);

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number from 1');
  return value;
}

async function main(options: Options): Promise<void> {
  if (options.list === true) {
    process.stdout.write(
      `${renderTable(
        ['fault', 'what'],
        catalogue.map(({ name, about }) => [name, about]),
      )}\n`,
    );
    return;
  }
  const faults = options.only?.map(faultNamed) ?? catalogue;
  const file = cachePath('faults', 'results.jsonl');
  if (options.fresh === true) await startAnew(file);
  const earlier = await readResults<RoundResult>(file);
  // A fault that was named is tried again, whatever is known of it.
  const isDone = (fault: Fault, round: number): boolean =>
    options.only === undefined &&
    earlier.some((result) => result.fault === fault.name && result.round === round && result.passed);
  const wanted = Array.from({ length: options.rounds }, (_, round) => round).flatMap((round) =>
    faults
      .filter((fault) => fault.name !== LONG || round === 0)
      .filter((fault) => !isDone(fault, round))
      .map((fault) => ({ fault, round })),
  );
  if (wanted.length === 0) {
    process.stdout.write('All of it has passed before; --fresh begins anew.\n');
    return;
  }
  const seconds = DEPLOY_SECONDS + wanted.reduce((sum, { fault }) => sum + expectedSeconds(fault, earlier), 0);
  process.stdout.write(`${wanted.length} rounds, about ${Math.ceil(seconds / 60)} min; results go to ${file}\n`);
  await ensureLinearizabilityJudge();
  await ensureIsolationJudge();
  const results: RoundResult[] = [];
  // Those on volumes of their own last: they need another shard.
  const groups = [
    wanted.filter(({ fault }) => !needsBounded(fault)),
    wanted.filter(({ fault }) => needsBounded(fault)),
  ];
  for (const [bounded, group] of groups.entries()) {
    if (group.length === 0) continue;
    await onInstallation(bounded === 1, options, async (installation) => {
      for (const { fault, round } of group) {
        const result = await tryRound(installation, fault, round, await nextRun(file));
        results.push(result);
        await appendResult(file, result);
        tellResult(result);
        if (!result.passed) await startOver(installation, result, bounded === 1 || options.keep === true);
      }
    });
  }
  summarise(results);
  process.exitCode = results.every(({ passed }) => passed) ? 0 : 1;
}

const needsBounded = (fault: Fault): boolean => fault.needsBoundedVolumes === true;

function expectedSeconds(fault: Fault, earlier: readonly RoundResult[]): number {
  const known = earlier.filter((result) => result.fault === fault.name).map(({ seconds }) => seconds);
  return percentile(known, 50) ?? Math.min(fault.lastsMs / 1000, 20) + OVERHEAD_SECONDS;
}

/** Runs are numbered through all results ever kept here: their rows may be in one database. */
async function nextRun(file: string): Promise<number> {
  return 1 + (Math.floor(Date.now() / 1000) % 100_000_000) + (await readResults(file)).length;
}

async function onInstallation(
  bounded: boolean,
  options: Options,
  work: (installation: Installation) => Promise<void>,
): Promise<void> {
  const cluster = await ensureCluster();
  await cluster.faults.healAll();
  const installation = new Installation(cluster, {
    keyspace: bounded ? 'bounded' : 'proof',
    acknowledgements: 1,
    ...(bounded ? { storageClassName: 'meridian-bounded' } : {}),
  });
  if (bounded) {
    await installation.remove();
    await cluster.faults.removeBoundedVolumes();
    await cluster.faults.makeBoundedVolumes(regions, BOUNDED_MEGABYTES);
  }
  const startedAt = performance.now();
  try {
    await installation.deploy(progress('deploying'), { keepOperator: options.keepOperator === true });
    process.stdout.write(`a shard of three members stands (${inSeconds(startedAt)} s)\n`);
    await work(installation);
  } finally {
    await cluster.faults.healAll();
    if (options.keep !== true || bounded) await installation.remove();
    if (bounded) await cluster.faults.removeBoundedVolumes();
  }
}

async function tryRound(installation: Installation, fault: Fault, round: number, run: number): Promise<RoundResult> {
  const startedAt = performance.now();
  try {
    return await runRound(installation, fault, {
      round,
      run,
      folder: cachePath('faults', 'histories'),
      tell: progress(`${fault.name} ${round}`),
    });
  } catch (error) {
    // The next round begins with everything healed, whatever became of this one.
    await installation.cluster.faults.healAll();
    await sleep(1_000);
    return {
      fault: fault.name,
      round,
      at: new Date().toISOString(),
      seconds: Math.round((performance.now() - startedAt) / 1000),
      passed: false,
      findings: [error instanceof Error ? (error.stack ?? error.message) : String(error)],
      notes: [],
      epochs: [0, 0],
      longestSilenceMs: Number.NaN,
      settledAfterHealMs: Number.NaN,
      operations: 0,
      unknown: 0,
      failed: 0,
      reconnected: 0,
      verdicts: [],
    };
  }
}

/** Keeps what was seen; a shard that a round has left in a bad way must not be the next one's. */
async function startOver(installation: Installation, { fault, round }: RoundResult, isLeft: boolean): Promise<void> {
  const folder = await keepEvidence(installation, cachePath('faults', 'evidence', `${fault}-${round}`));
  process.stdout.write(`       evidence: ${folder}\n`);
  const isWell = await installation
    .settled(() => {}, LAST_PATIENCE_MS)
    .then(
      () => true,
      () => false,
    );
  if (isWell || isLeft) return;
  await installation.remove();
  await installation.deploy(progress('deploying anew'), { keepOperator: true });
}

function progress(title: string): (what: string) => void {
  let last = '';
  return (what) => {
    if (what === last || !process.stderr.isTTY) return;
    last = what;
    process.stderr.write(`\r\x1b[K${title}: ${what.slice(0, 150)}`);
  };
}

function tellResult(result: RoundResult): void {
  const clear = process.stderr.isTTY ? '\r\x1b[K' : '';
  const { fault, round, passed, seconds, epochs, longestSilenceMs, operations, unknown } = result;
  process.stdout.write(
    `${clear}${passed ? 'ok    ' : 'FAILED'} ${fault} ${round} (${seconds} s): epoch ${epochs.join(' to ')}, ` +
      `silent for ${(longestSilenceMs / 1000).toFixed(1)} s, ${operations} operations, ${unknown} of unknown outcome\n`,
  );
  for (const finding of result.findings) process.stdout.write(`       ${finding.slice(0, 4_000)}\n`);
  if (!passed) for (const note of result.notes) process.stdout.write(`       (${note})\n`);
}

function summarise(results: readonly RoundResult[]): void {
  const rows = [...Map.groupBy(results, ({ fault }) => fault)].map(([fault, rounds]) => {
    const silences = rounds.map(({ longestSilenceMs }) => longestSilenceMs / 1000);
    const sum = (of: (result: RoundResult) => number): string =>
      String(rounds.reduce((total, each) => total + of(each), 0));
    return [
      fault,
      String(rounds.length),
      String(rounds.filter(({ passed }) => passed).length),
      (percentile(silences, 50) ?? Number.NaN).toFixed(1),
      Math.max(...silences).toFixed(1),
      sum(({ operations }) => operations),
      sum(({ unknown }) => unknown),
      sum(({ failed }) => failed),
    ];
  });
  const header = ['fault', 'rounds', 'passed', 'silent s (median)', 'max', 'operations', 'unknown', 'failed'];
  process.stdout.write(`\n${renderTable(header, rows)}\n`);
}

const inSeconds = (since: number): string => ((performance.now() - since) / 1000).toFixed(1);

await program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
