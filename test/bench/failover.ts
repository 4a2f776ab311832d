/**
 * `npm run bench:failover`: how long writes stand still, as a client at a constant rate sees it, for each way in which a
 * primary is lost or moved; with errors, lost and doubled writes. Says how long it will take, and goes on where it was
 * broken off. For comparison the same with `acknowledgements: 0`, whose lease is Kubernetes' own of 15 s.
 */
import { Command, InvalidArgumentError } from 'commander';
import { cachePath } from '#cluster/cache.ts';
import { ensureCluster } from '#cluster/cluster.ts';
import { renderTable } from '../../demo/table.ts';
import { Installation } from '../faults/installation.ts';
import { appendResult, percentile, readResults, startAnew } from '../faults/results.ts';
import { type Kind, kinds } from './failover/kinds.ts';
import { type BenchResult, benchRound } from './failover/round.ts';

const SECONDS_A_ROUND = 40;
const DEPLOY_SECONDS = 60;

interface Options {
  readonly rounds: number;
  readonly rate: number;
  readonly only?: readonly string[];
  readonly acknowledgements: readonly number[];
  readonly fresh?: boolean;
  readonly keepOperator?: boolean;
  readonly keep?: boolean;
}

const whole = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('a whole number');
  return value;
};

const program = new Command('npm run bench:failover --')
  .description('How long writes stand still when a primary is lost or moved')
  .option('--rounds <number>', 'rounds of each kind', whole, 20)
  .option('--rate <number>', 'writes a second', whole, 50)
  .option('--only <names...>', `these kinds only: ${kinds.map(({ name }) => name).join(', ')}`)
  .option(
    '--acknowledgements <k...>',
    'with so many followers that acknowledge',
    (text, former: readonly number[] | undefined) => [...(former ?? []), whole(text)],
  )
  .option('--fresh', 'begin anew instead of going on with the last run')
  .option('--keep', 'leave the shard on the cluster')
  .option('--keep-operator', 'measure what runs on the cluster, not what lies here')
  .action((options: Omit<Options, 'acknowledgements'> & { acknowledgements?: readonly number[] }) =>
    main({ ...options, acknowledgements: options.acknowledgements ?? [1, 0] }),
  );

interface Wanted {
  readonly kind: Kind;
  readonly acknowledgements: number;
  readonly round: number;
}

async function main(options: Options): Promise<void> {
  const unknown = options.only?.filter((name) => !kinds.some((kind) => kind.name === name)) ?? [];
  if (unknown.length > 0) throw new Error(`no such kind: ${unknown.join(', ')}`);
  const chosen = kinds.filter(({ name }) => options.only?.includes(name) ?? true);
  const file = cachePath('bench', 'failover.jsonl');
  if (options.fresh === true) await startAnew(file);
  let results = await readResults<BenchResult>(file);
  const wanted: Wanted[] = options.acknowledgements.flatMap((acknowledgements) =>
    // Kinds take turns, so that a run that is broken off has some of each.
    Array.from({ length: options.rounds }, (_, round) => round).flatMap((round) =>
      chosen
        .filter(({ name }) => !results.some((done) => isOf(done, name, acknowledgements) && done.round === round))
        .map((kind) => ({ kind, acknowledgements, round })),
    ),
  );
  const perRound =
    percentile(
      results.map(({ seconds }) => seconds),
      50,
    ) ?? SECONDS_A_ROUND;
  const minutes = (wanted.length * perRound + DEPLOY_SECONDS * options.acknowledgements.length) / 60;
  process.stdout.write(`${wanted.length} rounds, about ${Math.ceil(minutes)} min; results go to ${file}\n`);
  for (const acknowledgements of options.acknowledgements) {
    const rounds = wanted.filter((each) => each.acknowledgements === acknowledgements);
    if (rounds.length === 0) continue;
    await onInstallation(acknowledgements, options, async (installation) => {
      for (const each of rounds) {
        const result = await tryRound(installation, each, options.rate, results.length);
        if (result === undefined) continue;
        results = [...results, result];
        await appendResult(file, result);
        tellResult(result);
      }
    });
  }
  tellTable(results, chosen, options.acknowledgements);
  const missed = chosen.flatMap((kind) =>
    missedBy(
      kind,
      results.filter((result) => result.kind === kind.name),
    ),
  );
  for (const line of missed) process.stdout.write(`not reached: ${line}\n`);
  process.exitCode = missed.length === 0 ? 0 : 1;
}

/** What a kind promises with followers that acknowledge, and these rounds did not keep. */
function missedBy(kind: Kind, all: readonly BenchResult[]): string[] {
  const rounds = all.filter(({ acknowledgements }) => acknowledgements > 0);
  const missed: string[] = [];
  const isSplit = kind.toReachMs !== kind.toReachWithLeaderMs;
  for (const [withLeader, toReachMs] of [
    [false, kind.toReachMs],
    [true, kind.toReachWithLeaderMs],
  ] as const) {
    if (!isSplit && withLeader) continue;
    const those = rounds.filter((result) => !isSplit || result.withLeader === withLeader);
    const times = those.map(({ unavailableMs }) => unavailableMs);
    const at95 = percentile(times, 95);
    if (at95 !== undefined && at95 > toReachMs) {
      missed.push(
        `${kind.name}${withLeader ? ' with the leading operator' : ''}: p95 of ${times.length} rounds is ${at95} ms, not ${toReachMs}`,
      );
    }
  }
  const count = (of: (result: BenchResult) => number): number => rounds.reduce((sum, result) => sum + of(result), 0);
  const spoilt = count(({ lost, doubled }) => lost + doubled);
  if (spoilt > 0) missed.push(`${kind.name}: ${spoilt} writes lost or doubled`);
  const errors = count((result) => result.errors);
  if (!kind.mayCostErrors && errors > 0) missed.push(`${kind.name}: ${errors} errors, where none may be`);
  return missed;
}

const isOf = (result: BenchResult, kind: string, acknowledgements: number): boolean =>
  result.kind === kind && result.acknowledgements === acknowledgements;

async function onInstallation(
  acknowledgements: number,
  options: Options,
  work: (installation: Installation) => Promise<void>,
): Promise<void> {
  const cluster = await ensureCluster();
  await cluster.faults.healAll();
  const installation = new Installation(cluster, { keyspace: `bench${acknowledgements}`, acknowledgements });
  try {
    await installation.deploy(() => {}, { keepOperator: options.keepOperator === true });
    await work(installation);
  } finally {
    await cluster.faults.healAll();
    if (options.keep !== true) await installation.remove();
  }
}

/** Undefined where the round itself went wrong: it is told, and tried again by the next run. */
async function tryRound(
  installation: Installation,
  { kind, acknowledgements, round }: Wanted,
  perSecond: number,
  before: number,
): Promise<BenchResult | undefined> {
  try {
    return await benchRound(installation, kind, {
      round,
      run: (Math.floor(Date.now() / 1000) % 1_000_000_000) + before,
      perSecond,
      acknowledgements,
      folder: cachePath('bench', 'histories'),
      tell: () => {},
    });
  } catch (error) {
    process.stdout.write(`FAILED ${kind.name} k=${acknowledgements} ${round}: ${String(error)}\n`);
    await installation.cluster.faults.healAll();
    return undefined;
  }
}

function tellResult(result: BenchResult): void {
  const { kind, acknowledgements, round, unavailableMs, requests, errors, unknown, lost, doubled, errorCodes } = result;
  process.stdout.write(
    `${kind} k=${acknowledgements} ${round}: ${(unavailableMs / 1000).toFixed(2)} s, ${requests} requests, ${errors} errors ` +
      `(${unknown} unknown) ${JSON.stringify(errorCodes)}, ${lost} lost, ${doubled} doubled${result.problem === undefined ? '' : `: ${result.problem}`}\n`,
  );
}

/** The number of rounds stands beside every percentile. */
function tellTable(
  results: readonly BenchResult[],
  chosen: readonly Kind[],
  wantedAcknowledgements: readonly number[],
): void {
  const rows: string[][] = [];
  for (const acknowledgements of wantedAcknowledgements) {
    for (const kind of chosen) {
      const rounds = results.filter((result) => isOf(result, kind.name, acknowledgements));
      const split = kind.toReachMs === kind.toReachWithLeaderMs ? [undefined] : [false, true];
      for (const withLeader of split) {
        const those = rounds.filter((result) => withLeader === undefined || result.withLeader === withLeader);
        if (those.length > 0) rows.push(rowOf(kind, acknowledgements, withLeader, those));
      }
    }
  }
  const header = [
    'kind',
    'k',
    'rounds',
    'min s',
    'median',
    'p95',
    'max',
    'to reach',
    'errors',
    'unknown',
    'lost',
    'doubled',
  ];
  process.stdout.write(`\n${renderTable(header, rows)}\n`);
}

function rowOf(kind: Kind, k: number, withLeader: boolean | undefined, rounds: readonly BenchResult[]): string[] {
  const times = rounds.map(({ unavailableMs }) => unavailableMs / 1000);
  const at = (percent: number): string => (percentile(times, percent) ?? Number.NaN).toFixed(2);
  const sum = (of: (result: BenchResult) => number): string =>
    String(rounds.reduce((total, result) => total + of(result), 0));
  const toReach = k === 0 ? '' : ((withLeader === true ? kind.toReachWithLeaderMs : kind.toReachMs) / 1000).toFixed(0);
  return [
    withLeader === true ? `${kind.name}, leading operator with it` : kind.name,
    String(k),
    String(rounds.length),
    Math.min(...times).toFixed(2),
    at(50),
    at(95),
    Math.max(...times).toFixed(2),
    toReach,
    sum(({ errors }) => errors),
    sum(({ unknown }) => unknown),
    sum(({ lost }) => lost),
    sum(({ doubled }) => doubled),
  ];
}

await program.parseAsync().catch((error: unknown) => {
  process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
