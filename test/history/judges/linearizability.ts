/** Porcupine's word on registers and on the set: is there one order of the operations that explains every answer? */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommandError, run } from '#cluster/process.ts';
import { type Entry, writeEntries } from '../entry.ts';
import { ensureLinearizabilityJudge } from './programs.ts';
import type { Verdict } from './verdict.ts';

const TIMEOUT = '60s';
const EXIT_WITH_VERDICT = [1, 2];

interface Printed {
  readonly valid: boolean | 'unknown';
  readonly operations: number;
  readonly findings: readonly { object: number; valid: boolean | 'unknown'; history: readonly string[] | null }[];
}

export async function judgeLinearizability(model: 'register' | 'set', entries: readonly Entry[]): Promise<Verdict> {
  const judge = `linearizable ${model} (Porcupine)`;
  if (entries.length === 0) return { judge, valid: 'unknown', operations: 0, findings: ['the history is empty'] };
  const program = await ensureLinearizabilityJudge();
  const folder = await mkdtemp(join(tmpdir(), 'meridian-judge-'));
  try {
    const file = join(folder, 'history.jsonl');
    await writeFile(file, writeEntries(entries));
    const output = await run([program, '--model', model, '--timeout', TIMEOUT, file]).catch(verdictOfExit);
    const printed = JSON.parse(output) as Printed;
    const findings = printed.findings.flatMap(({ object, valid, history }) =>
      valid === 'unknown'
        ? [`${model} ${object}: no answer in ${TIMEOUT}`]
        : [`${model} ${object} is not linearizable:\n    ${(history ?? []).join('\n    ')}`],
    );
    return { judge, valid: printed.valid, operations: printed.operations, findings };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** An exit status of 1 or 2 is a verdict, printed like any other. */
function verdictOfExit(error: unknown): string {
  if (error instanceof CommandError && error.exitCode !== null && EXIT_WITH_VERDICT.includes(error.exitCode)) {
    return error.output;
  }
  throw error;
}
