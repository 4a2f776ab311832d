/** What importing the Kubernetes client costs those who may not pay much: router and agent. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { it } from 'node:test';
import { promisify } from 'node:util';

const run = promisify(execFile);

it('the client, its reflectors and the pod’s configuration load neither @kubernetes/client-node nor a YAML parser', async () => {
  // Resolved files are listed by the loader's own report of what it has read.
  const script = `
    import { registerHooks } from 'node:module';
    const read = [];
    registerHooks({ load(url, context, next) { read.push(url); return next(url, context); } });
    for (const name of ['client', 'reflector', 'kinds', 'meridian', 'load-configuration', 'lease', 'queue', 'events'])
      await import('#kube/' + name + '.ts');
    console.log(JSON.stringify(read));
  `;
  const root = new URL('../../..', import.meta.url).pathname;
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { cwd: root });
  const read = JSON.parse(stdout) as string[];
  assert.ok(read.some((url) => url.endsWith('kube/client.ts')));
  assert.ok(
    read.some((url) => url.includes('/undici/')),
    'the report shows no packages: it proves nothing',
  );
  assert.deepEqual(
    read.filter((url) => /client-node|\/yaml\/|\/zod\//.test(url)),
    [],
  );
});
