/**
 * `npm test`: everything, stage by stage, with the time of each, and one closing line that counts all tests.
 * A stage that fails doesn't stop the later ones unless they need it; the exit code says whether all passed.
 * `npm test -- unit integration` runs only the named stages.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Counts } from './run/counting-reporter.ts';

interface Stage {
  readonly name: string;
  /** What it shows, for people. */
  readonly shows: string;
  readonly run: () => Promise<Counts>;
}

function exec(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    child.once('error', (error) => {
      process.stderr.write(`${command}: ${error.message}\n`);
      resolve(127);
    });
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

/** One check that passes or fails as a whole. */
async function check(command: string, ...args: string[]): Promise<Counts> {
  const passed = (await exec(command, args)) === 0;
  return { passed: passed ? 1 : 0, failed: passed ? 0 : 1, skipped: 0 };
}

async function nodeTests(globs: readonly string[], concurrency: number): Promise<Counts> {
  const folder = mkdtempSync(join(tmpdir(), 'meridian-test-'));
  const counted = join(folder, 'counts.json');
  try {
    const code = await exec(process.execPath, [
      '--test',
      `--test-concurrency=${concurrency}`,
      '--test-reporter=dot',
      '--test-reporter-destination=stdout',
      '--test-reporter=./test/run/counting-reporter.ts',
      `--test-reporter-destination=${counted}`,
      ...globs,
    ]);
    const counts = JSON.parse(readFileSync(counted, 'utf8')) as Counts;
    // A run that fails without a failed test (a file that can't be loaded, no file at all) is a failure all the same.
    if (code !== 0 && counts.failed === 0) counts.failed = 1;
    if (counts.passed + counts.failed === 0) counts.failed = 1;
    return counts;
  } catch (error) {
    process.stderr.write(`no result from the test runner: ${String(error)}\n`);
    return { passed: 0, failed: 1, skipped: 0 };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const stages: readonly Stage[] = [
  { name: 'types', shows: 'TypeScript, strict', run: () => check('tsc', '--noEmit') },
  { name: 'lint', shows: 'oxlint, type-aware', run: () => check('oxlint', '--type-aware', '--deny-warnings') },
  { name: 'format', shows: 'Biome', run: () => check('biome', 'ci', '--log-level=error', '.') },
  { name: 'dead-code', shows: 'knip: nothing unused', run: () => check('knip', '--no-progress') },
  {
    name: 'unit',
    shows: 'units, chart, CRDs, tidiness',
    run: () => nodeTests(['test/unit/**/*.test.ts', 'test/tidy/**/*.test.ts'], 2),
  },
  {
    name: 'simulate',
    shows: 'the decisions of authority, explored: every step, crash and stale view; planted bugs are found',
    run: () => nodeTests(['test/simulate/**/*.test.ts'], 2),
  },
  {
    name: 'judges',
    shows: 'the judges of histories reject what they must; recorder and workloads on a Postgres that is killed',
    run: () => nodeTests(['test/history/**/*.test.ts'], 2),
  },
  {
    name: 'integration',
    shows: 'agents, tunnels, ownership and router with real Postgres in containers',
    run: () => nodeTests(['test/integration/**/*.test.ts'], 2),
  },
  {
    name: 'e2e',
    shows: 'the whole on a real Kubernetes cluster of four nodes',
    // Two files at once: the long one mostly waits for Postgres, the short ones for leases that run out.
    run: () => nodeTests(['test/e2e/**/*.test.ts'], 2),
  },
  {
    name: 'faults',
    shows: 'a few faults of `npm run test:faults` on that cluster, with live histories that are judged',
    run: () => nodeTests(['test/faults/**/*.test.ts'], 1),
  },
];

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !stages.some((stage) => stage.name === name));
if (unknown.length > 0) {
  process.stderr.write(
    `unknown stage ${unknown.join(', ')}; the stages are ${stages.map((stage) => stage.name).join(', ')}\n`,
  );
  process.exit(2);
}

const startedAt = Date.now();
const seconds = (since: number): string => `${((Date.now() - since) / 1000).toFixed(1)} s`;
const total: Counts = { passed: 0, failed: 0, skipped: 0 };
const lines: string[] = [];
for (const stage of stages) {
  if (wanted.length > 0 && !wanted.includes(stage.name)) continue;
  process.stdout.write(`\n=== ${stage.name}: ${stage.shows}\n`);
  const stageStartedAt = Date.now();
  const counts = await stage.run();
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
  const line = `${counts.failed === 0 ? 'ok    ' : 'FAILED'} ${stage.name.padEnd(12)} ${seconds(stageStartedAt).padStart(9)}  ${counts.passed} passed, ${counts.failed} failed${counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''}`;
  lines.push(line);
  process.stdout.write(`\n${line}\n`);
}
process.stdout.write(`\n${lines.join('\n')}\nall of it in ${seconds(startedAt)}\n`);
process.stdout.write(
  `${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}\n`,
);
process.exitCode = total.failed === 0 ? 0 : 1;
