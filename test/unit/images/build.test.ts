/** What only shows once our programs are bundled: packages that look for their files beside themselves. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { bundleProgram, copyParser } from '../../../images/build.ts';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../..', import.meta.url));

describe('a bundle', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-bundle-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const runBundled = async (name: string, source: string): Promise<string> => {
    await writeFile(join(folder, `${name}.ts`), source);
    const bundle = join(folder, `${name}.mjs`);
    await bundleProgram(join(folder, `${name}.ts`), bundle, join(root, 'node_modules'));
    // Another folder, so that nothing is found in our node_modules.
    return (await run(process.execPath, ['--liftoff-only', bundle], { cwd: folder, env: {} })).stdout.trim();
  };

  it('finds the parser beside itself', async () => {
    await copyParser(folder);
    const source = `import { loadModule, parseSync } from 'libpg-query';
      await loadModule();
      process.stdout.write(String(parseSync('select 1; select 2').stmts.length));`;
    assert.equal(await runBundled('parser', source), '2');
  });

  it('has pg, pino and prom-client in it', async () => {
    const source = `import pg from 'pg';
      import { pino } from 'pino';
      import { Registry } from 'prom-client';
      pino({ level: 'silent' }).info('nothing');
      process.stdout.write(typeof pg.Client + typeof new Registry().metrics);`;
    assert.equal(await runBundled('packages', source), 'functionfunction');
  });
});
