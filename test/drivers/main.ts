/**
 * `npm run test:drivers [-- DRIVER...]`: the drivers that applications use, each with its own checks, through a router in this process
 * in front of Postgres in containers. Prints a table; exit code 1 where something failed. The first time it installs the drivers.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CommandError, run } from '#cluster/process.ts';
import { defaultTimes } from '#router/settings.ts';
import { database, password, RouterKeyspace, type TestRouter } from '#test/integration/router-keyspace.ts';
import { type Driver, drivers, prepared } from './drivers.ts';
import { type CheckResult, checkNames, judge } from './report.ts';

const wanted = process.argv.slice(2);
for (const name of wanted)
  if (!drivers.some((driver) => driver.name === name)) {
    process.stderr.write(`no driver "${name}"; there are ${drivers.map((driver) => driver.name).join(', ')}\n`);
    process.exit(2);
  }

const say = (line: string): void => void process.stdout.write(`${line}\n`);
/** Of one driver's program: 50 MB rows take their time. */
const timeoutMs = 300_000;
let keyspace: RouterKeyspace;
let router: TestRouter;

function environment(number: number): Record<string, string> {
  return {
    PGHOST: 'localhost',
    PGPORT: String(router.port),
    PGUSER: 'acme_app',
    PGPASSWORD: password,
    PGDATABASE: database,
    PGSSLMODE: 'verify-full',
    PGSSLROOTCERT: join(keyspace.folder, 'ca.crt'),
    PGCONNECT_TIMEOUT: '30',
    DRIVER_NUMBER: String(number),
  };
}

async function outputOf(driver: Driver, number: number): Promise<string> {
  const folder = await prepared(driver);
  if (driver.program !== undefined) return run(driver.program, { cwd: folder, env: environment(number), timeoutMs });
  const { container, address } = keyspace.member('one-eu-0');
  const script = await readFile(join(folder, 'checks.sh'), 'utf8');
  const { output } = await container.exec(['bash', '-c', script], {
    env: {
      ...environment(number),
      // The machine, as containers on the default bridge see it.
      PGHOSTADDR: address.replace(/\.\d+$/, '.1'),
      PGSSLROOTCERT: '/etc/meridian/tls/ca.crt',
    },
  });
  return output;
}

async function check(driver: Driver): Promise<CheckResult[]> {
  const number = drivers.indexOf(driver) + 1;
  try {
    return judge(driver.checks, driver.cannot, await outputOf(driver, number));
  } catch (error) {
    const words = error instanceof CommandError ? error.message : String(error);
    return driver.checks.map((name) => ({ name, outcome: 'failed', words }));
  }
}

const marks = { ok: 'ok', failed: 'FAILED', cannot: '-' } as const;
const table: string[][] = [['', ...checkNames, 'pg_dump']];
let failures = 0;
keyspace = await RouterKeyspace.start();
try {
  // A runtime that starts on a busy machine takes its time between the first byte and the last of a log-in.
  router = await keyspace.router('eu', {
    address: '0.0.0.0',
    times: { ...defaultTimes, authenticationMs: 60_000 },
  });
  for (const driver of drivers) {
    if (wanted.length > 0 && !wanted.includes(driver.name)) continue;
    const startedMs = performance.now();
    const results = await check(driver);
    const failed = results.filter(({ outcome }) => outcome === 'failed');
    failures += failed.length;
    say(
      `${driver.name}: ${results.length - failed.length} of ${results.length} in ${((performance.now() - startedMs) / 1_000).toFixed(1)} s`,
    );
    for (const { name, words } of failed) say(`  ${name}: ${words.length > 700 ? `… ${words.slice(-700)}` : words}`);
    const cell = (name: string): string => {
      const found = results.find((result) => result.name === name);
      return found === undefined ? '' : marks[found.outcome];
    };
    table.push([driver.name, ...(table[0] as string[]).slice(1).map(cell)]);
  }
} finally {
  await keyspace.stop();
}
const widths = (table[0] as string[]).map((_, column) => Math.max(...table.map((row) => (row[column] ?? '').length)));
say('');
for (const row of table)
  say(
    row
      .map((text, column) => text.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
process.exitCode = failures === 0 ? 0 : 1;
