/** One round: the client at its rate through a router of another region than the primary's, a loss, and the count. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Heal } from '../../faults/fault.ts';
import { fieldOf } from '../../faults/field.ts';
import type { Installation } from '../../faults/installation.ts';
import { operationsOf } from '../../history/entry.ts';
import { judgeDurability } from '../../history/judges/durability.ts';
import { Recorder } from '../../history/recorder.ts';
import type { Kind } from './kinds.ts';
import { OpenLoop } from './open-loop.ts';

const WARM_UP_MS = 3_000;
const LONGEST_MS = 60_000;
/** After writes go on: what comes late must still be seen. */
const DWELL_MS = 3_000;
const SETTLE_TIMEOUT_MS = 240_000;
const LAST_ANSWERS_MS = 40_000;
const POLL_MS = 50;
/** A stretch without an acknowledgement that counts as the loss being felt; below it is the noise of two cores. */
const FELT_MS = 250;
const SESSIONS = 48;

export interface BenchResult {
  readonly kind: string;
  readonly acknowledgements: number;
  readonly round: number;
  readonly at: string;
  readonly seconds: number;
  /** The longest time between two acknowledged writes. */
  readonly unavailableMs: number;
  readonly requests: number;
  /** Requests that the client was told had failed, of known and of unknown outcome, by SQLSTATE. */
  readonly errors: number;
  readonly unknown: number;
  readonly errorCodes: Readonly<Record<string, number>>;
  readonly lost: number;
  readonly doubled: number;
  readonly withLeader: boolean;
  readonly epochs: readonly [number, number];
  readonly problem?: string;
}

export interface BenchRound {
  readonly round: number;
  readonly run: number;
  readonly perSecond: number;
  readonly acknowledgements: number;
  readonly folder: string;
  readonly tell: (what: string) => void;
}

export async function benchRound(installation: Installation, kind: Kind, options: BenchRound): Promise<BenchResult> {
  const { round, run, perSecond, acknowledgements, folder, tell } = options;
  const startedAt = performance.now();
  await installation.settled((what) => tell(what), SETTLE_TIMEOUT_MS);
  const recorder = new Recorder('open-loop', {
    file: join(folder, `${kind.name}-k${acknowledgements}-${round}.jsonl`),
  });
  const notes: string[] = [];
  const field = await fieldOf(
    installation,
    () => recorder.entries.slice(-500),
    round,
    (text) => notes.push(text),
  );
  const door = installation.door(field.followers[0]?.region ?? field.primary.region);
  const before = await installation.authority();
  const client = new OpenLoop({ door, recorder, run, perSecond, sessions: SESSIONS });
  tell('connecting');
  await client.start();
  let heal: Heal | undefined;
  try {
    await sleep(WARM_UP_MS);
    tell('harming');
    const known = recorder.entries.length;
    const harmedAt = performance.now();
    heal = await kind.inject(field);
    await untilWritesGoOn(recorder, known, kind, harmedAt);
    await sleep(DWELL_MS);
    tell('healing');
    await heal();
    heal = undefined;
    await installation.settled((what) => tell(what), SETTLE_TIMEOUT_MS);
  } finally {
    await heal?.();
    await client.stop(LAST_ANSWERS_MS);
  }
  const after = await installation.authority();
  const final = await installation.finalStateThrough(door.name, run);
  const verdict = judgeDurability(recorder.entries, [final]);
  const operations = operationsOf<number>(recorder.entries);
  const failed = operations.filter(({ outcome }) => outcome !== 'ok');
  const counts = Map.groupBy(final.elements, (element) => element);
  const acknowledged = operations.filter(({ outcome }) => outcome === 'ok');
  return {
    kind: kind.name,
    acknowledgements,
    round,
    at: new Date().toISOString(),
    seconds: Math.round((performance.now() - startedAt) / 1000),
    unavailableMs: Math.round(longestGapMs(acknowledged.map(({ endedAt }) => endedAt))),
    requests: operations.length,
    errors: failed.length,
    unknown: failed.filter(({ outcome }) => outcome === 'info').length,
    errorCodes: Object.fromEntries(
      [...Map.groupBy(failed, ({ error }) => error ?? '?')].map(([code, those]) => [code, those.length]),
    ),
    lost: acknowledged.filter(({ invoked }) => !counts.has(invoked)).length,
    doubled: [...counts.values()].filter((those) => those.length > 1).length,
    withLeader: field.leadingOperator.region === field.primary.region,
    epochs: [before?.epoch ?? 0, after?.epoch ?? 0],
    ...(verdict.valid === true ? {} : { problem: verdict.findings.join('; ').slice(0, 2_000) }),
  };
}

/** Times in nanoseconds. */
export function longestGapMs(acknowledgedAt: readonly number[]): number {
  const ordered = acknowledgedAt.toSorted((a, b) => a - b);
  return Math.max(0, ...ordered.slice(1).map((at, n) => at - (ordered[n] ?? at))) / 1e6;
}

/** The loss was felt and is over, or a new side has spoken. */
async function untilWritesGoOn(recorder: Recorder, known: number, kind: Kind, harmedAt: number): Promise<void> {
  const timelineBefore = Math.max(0, ...recorder.entries.slice(-500).map(({ timeline }) => timeline ?? 0));
  while (performance.now() - harmedAt < LONGEST_MS) {
    const since = recorder.entries.slice(Math.max(0, known - 100)).filter(({ type }) => type === 'ok');
    const hasNewSide = since.some(({ timeline }) => (timeline ?? 0) > timelineBefore);
    const hasGoneOn = !kind.movesPrimary && longestGapMs(since.map(({ time }) => time)) > FELT_MS;
    if (hasNewSide || hasGoneOn) return;
    await sleep(POLL_MS);
  }
}
