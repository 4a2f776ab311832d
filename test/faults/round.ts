/**
 * One round: writers and readers at work through every router, a fault, the time that it lasts, its end, and the wait
 * until all is as it was; then everything that was recorded is judged, and what every member holds in the end.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CommandError, lastLines } from '#cluster/process.ts';
import { type Entry, operationsOf } from '../history/entry.ts';
import { Fleet } from '../history/fleet.ts';
import { judgeAll } from '../history/judge.ts';
import type { FinalState } from '../history/judges/final-state.ts';
import type { Verdict } from '../history/judges/verdict.ts';
import type { Fault, Heal } from './fault.ts';
import { fieldOf, newestTimeline, newSideSpoke } from './field.ts';
import type { Installation, Pod } from './installation.ts';
import { regions } from './manifests.ts';

const WARM_UP_MS = 3_000;
/** On the new side, before the fault is taken back. */
const DWELL_MS = 3_000;
const AFTERWARDS_MS = 2_000;
const SETTLE_TIMEOUT_MS = 180_000;
const CATCH_UP_TIMEOUT_MS = 90_000;
const POLL_MS = 100;

export interface RoundResult {
  readonly fault: string;
  readonly round: number;
  readonly at: string;
  readonly seconds: number;
  readonly passed: boolean;
  /** What is wrong, for people: judges' findings, and what didn't come as it must. */
  readonly findings: readonly string[];
  readonly notes: readonly string[];
  readonly epochs: readonly [before: number, after: number];
  /** The longest time without an acknowledged write, as clients of any router saw it. */
  readonly longestSilenceMs: number;
  readonly settledAfterHealMs: number;
  readonly operations: number;
  readonly unknown: number;
  readonly failed: number;
  readonly reconnected: number;
  readonly verdicts: readonly Pick<Verdict, 'judge' | 'valid' | 'operations'>[];
}

export interface RoundOptions {
  readonly round: number;
  /** Numbers this round's rows. */
  readonly run: number;
  readonly folder: string;
  readonly tell: (what: string) => void;
  /** How many times as long as the fault allows nobody may be able to write. Default 1. */
  readonly silenceFactor?: number;
}

export async function runRound(
  installation: Installation,
  fault: Fault,
  { round, run, folder, tell, silenceFactor = 1 }: RoundOptions,
): Promise<RoundResult> {
  const startedAt = performance.now();
  const notes: string[] = [];
  tell('settling');
  await installation.settled((what) => tell(`before: ${what}`), SETTLE_TIMEOUT_MS);
  const before = await installation.authority();
  if (before === undefined) throw new Error('the shard has no authority on record');

  const fleet = new Fleet({
    doors: regions.map((region) => installation.door(region)),
    run,
    seed: run,
    folder: join(folder, `${fault.name}-${round}`),
  });
  tell('connecting');
  await fleet.start();
  const findings: string[] = [];
  let heal: Heal | undefined;
  let settledAfterHealMs = Number.NaN;
  try {
    await sleep(WARM_UP_MS);
    const field = await fieldOf(installation, recentOf(fleet), round, (text) => notes.push(text));
    tell('harming');
    const harmedAt = performance.now();
    const knownBefore = newestTimeline(recentOf(fleet)());
    // Harm that was begun and not finished is taken back all the same.
    heal = () => installation.cluster.faults.healAll();
    heal = await fault.inject(field);
    await lastFor(fault, fleet, knownBefore, harmedAt);
    tell('healing');
    await heal();
    heal = undefined;
    const healedAt = performance.now();
    await installation
      .settled((what) => tell(`after: ${what}`), SETTLE_TIMEOUT_MS)
      .catch((error: unknown) => {
        findings.push(error instanceof Error ? error.message : String(error));
      });
    settledAfterHealMs = performance.now() - healedAt;
    await sleep(AFTERWARDS_MS);
  } finally {
    await heal?.().catch((error: unknown) => findings.push(`healing: ${String(error)}`));
    tell('last answers');
    await fleet.stop();
  }

  tell('final reads');
  const finals = await finalStates(installation, run, findings);
  tell('judging');
  const histories = new Map(fleet.workloads.map(({ name, recorder }) => [name, recorder.entries]));
  const verdicts = await judgeAll(histories, finals, { answersMayBeLate: fault.answersMayBeLate === true });
  for (const { judge, valid, operations, findings: found } of verdicts) {
    if (valid !== true)
      findings.push(`${judge}: ${valid === false ? 'violated' : 'not known'}\n  ${found.join('\n  ')}`);
    else if (operations === 0) findings.push(`${judge}: nothing was seen`);
  }
  const after = await installation.authority();
  findings.push(...unexpected(fault, before.epoch, after?.epoch));
  const silentMs = longestSilence(fleet);
  const silentAtMostMs = (fault.silentAtMostMs ?? Number.POSITIVE_INFINITY) * silenceFactor;
  if (silentMs > silentAtMostMs) {
    findings.push(`nobody could write for ${Math.round(silentMs)} ms, at most ${silentAtMostMs} were to be`);
  }
  const operations = [...histories.values()].flatMap((entries) => operationsOf<unknown>(entries));
  return {
    fault: fault.name,
    round,
    at: new Date().toISOString(),
    seconds: Math.round((performance.now() - startedAt) / 1000),
    passed: findings.length === 0,
    findings,
    notes,
    epochs: [before.epoch, after?.epoch ?? 0],
    longestSilenceMs: Math.round(silentMs),
    settledAfterHealMs: Math.round(settledAfterHealMs),
    operations: operations.length,
    unknown: operations.filter(({ outcome }) => outcome === 'info').length,
    failed: operations.filter(({ outcome }) => outcome === 'fail').length,
    reconnected: fleet.reconnected(),
    verdicts: verdicts.map(({ judge, valid, operations: seen }) => ({ judge, valid, operations: seen })),
  };
}

/** Until a new side has spoken and a little longer, or for the whole time. */
async function lastFor(fault: Fault, fleet: Fleet, knownBefore: number, harmedAt: number): Promise<void> {
  const endsAt = harmedAt + fault.lastsMs;
  if (fault.expected !== 'same epoch' && (await newSideSpoke(recentOf(fleet), knownBefore, endsAt))) {
    await sleep(DWELL_MS);
    return;
  }
  await sleep(Math.max(0, endsAt - performance.now()));
}

/** The latest of every history. */
const recentOf = (fleet: Fleet) => (): readonly Entry[] =>
  fleet.workloads.flatMap(({ recorder }) => recorder.entries.slice(-500));

/** Milliseconds. */
function longestSilence(fleet: Fleet): number {
  const times = fleet.workloads
    .flatMap(({ recorder }) => recorder.entries)
    .filter(({ type, timeline }) => type === 'ok' && timeline !== undefined)
    .map(({ time }) => time)
    .toSorted((a, b) => a - b);
  const gaps = times.slice(1).map((time, n) => time - (times[n] ?? time));
  return Math.max(0, ...gaps) / 1e6;
}

/**
 * Every member's own, once followers have what the primary has, and one through a router. Who can't be asked is a finding,
 * and the others are judged all the same.
 */
async function finalStates(installation: Installation, run: number, findings: string[]): Promise<FinalState[]> {
  const giveUpAt = performance.now() + CATCH_UP_TIMEOUT_MS;
  for (;;) {
    const members = await installation.members();
    const asked = await Promise.allSettled([
      ...members.map((pod: Pod) => installation.finalStateOf(pod.name, run)),
      installation.finalStateThrough(regions[0], run),
    ]);
    const answers = asked
      .filter(({ status }) => status === 'fulfilled')
      .map((each) => (each as { value: FinalState }).value);
    const sizes = new Set(
      answers.map(({ elements, transfers, moves }) => `${elements.length} ${transfers.length} ${moves.length}`),
    );
    if (answers.length === asked.length && sizes.size === 1) return answers;
    if (performance.now() > giveUpAt) {
      for (const [n, each] of asked.entries()) {
        if (each.status === 'fulfilled') continue;
        const { reason } = each as { reason: unknown };
        const said = reason instanceof CommandError ? lastLines(reason.output, 2) : String(reason);
        findings.push(`${members[n]?.name ?? 'a router'} could not be asked in the end: ${said}`);
      }
      return answers;
    }
    await sleep(POLL_MS * 5);
  }
}

function unexpected(fault: Fault, before: number, after: number | undefined): string[] {
  if (after === undefined) return ['the record of authority is gone'];
  if (after < before) return [`the epoch went back from ${before} to ${after}`];
  if (fault.expected === 'new epoch' && after === before) return ['no failover: the epoch is the same'];
  if (fault.expected === 'same epoch' && after !== before) return [`a failover that nobody needed: epoch ${after}`];
  return [];
}
