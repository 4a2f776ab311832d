/**
 * adya's word on transactions of appends and reads: which anomalies (G0 to G2, and their session and real-time kinds)
 * the history shows beyond what a level of ours allows.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommandError, run } from '#cluster/process.ts';
import { type Entry, operationsOf, writeEntries } from '../entry.ts';
import { ensureIsolationJudge } from './programs.ts';
import type { Verdict } from './verdict.ts';

/** What a level of consistency together with an isolation level promises, in adya's words. */
export type Promised = 'strong serializable' | 'strong repeatable read' | 'causal on followers';

/** adya's models named `causal` and `parallel-snapshot-isolation` miss read-your-writes violations: not used. */
const demands: Readonly<Record<Promised, readonly string[]>> = {
  'strong serializable': ['-c', 'strict-serializable'],
  'strong repeatable read': ['-c', 'strong-snapshot-isolation'],
  'causal on followers': ['-c', 'consistent-view', '-a', 'G-single-item-process', '-a', 'G1c-process'],
};

const EXIT_WITH_REPORT = [1, 2];

interface Report {
  readonly valid: boolean | string;
  readonly anomalies?: Readonly<Record<string, readonly { readonly explanation?: string }[]>>;
}

export async function judgeIsolation(promised: Promised, entries: readonly Entry[]): Promise<Verdict> {
  const judge = `${promised} (adya)`;
  if (entries.length === 0) return { judge, valid: 'unknown', operations: 0, findings: ['the history is empty'] };
  const program = await ensureIsolationJudge();
  const folder = await mkdtemp(join(tmpdir(), 'meridian-judge-'));
  try {
    const file = join(folder, 'history.jsonl');
    await writeFile(file, writeEntries(entries));
    const argv = [program, 'check', '-m', 'list-append', ...demands[promised], '--json', file];
    const report = JSON.parse(await run(argv).catch(reportOfExit)) as Report | Report[];
    const [only] = Array.isArray(report) ? report : [report];
    const operations = operationsOf(entries).filter(({ outcome }) => outcome === 'ok').length;
    const valid = only?.valid === true || only?.valid === false ? only.valid : 'unknown';
    if (valid === true) return { judge, valid, operations, findings: [] };
    const findings = Object.entries(only?.anomalies ?? {}).flatMap(([kind, found]) =>
      found.map(({ explanation }) => `${kind}: ${explanation ?? ''}`),
    );
    return { judge, valid, operations, findings };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function reportOfExit(error: unknown): string {
  if (error instanceof CommandError && error.exitCode !== null && EXIT_WITH_REPORT.includes(error.exitCode)) {
    return error.output;
  }
  throw error;
}
