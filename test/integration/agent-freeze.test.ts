/** Clients that are frozen before a primary is shut down: none of them shows what another one's end makes visible. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { GenericContainer } from 'testcontainers';
import { buildImages } from '../../images/build.ts';

process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';

const entry = fileURLToPath(new URL('agent-freeze-inside.ts', import.meta.url));
const banner = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";

it('a frozen client shows nothing of a commit that its end makes visible, and ends without an answer', async () => {
  const { postgres } = await buildImages({ only: 'postgres' });
  const bundle = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    external: ['pg-native'],
    banner: { js: banner },
  });
  const container = await new GenericContainer(postgres)
    .withEntrypoint(['bash', '-c', 'while :; do sleep 1; done'])
    .withUser('10001:10001')
    .withSharedMemorySize(256 * 1024 * 1024)
    .withTmpFs({ '/lab': 'rw,uid=10001,gid=10001,mode=0700' })
    .start();
  try {
    const content = bundle.outputFiles[0]?.text ?? '';
    await container.copyContentToContainer([{ content, target: '/tmp/inside.mjs' }]);
    const { output } = await container.exec(['node', '/tmp/inside.mjs']);
    const line = output.split('\n').findLast((text) => text.startsWith('{'));
    assert.ok(line !== undefined, output);
    assert.deepEqual(JSON.parse(line), {
      beforeItsEnd: 0,
      whileFrozen: 'silent',
      afterwards: ['cut', 'cut'],
      waiters: 1,
      wokenEarly: false,
      stopped: ['cut', 'cut'],
    });
  } finally {
    await container.stop({ timeout: 1 });
  }
});
