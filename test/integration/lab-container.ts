/**
 * A container of our own Postgres image without the agent, with a file system in memory, and beside it a program of ours that
 * runs inside (`node /tmp/inside.mjs`): for tests that need what the agent's functions find on the same machine as Postgres.
 */
import { build } from 'esbuild';
import { GenericContainer, type StartedTestContainer } from 'testcontainers';
import { buildImages } from '../../images/build.ts';

process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';

export const labFolder = '/lab';
export const insideProgram = '/tmp/inside.mjs';
const banner = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";

/** @param inside Path of the program, which is bundled. Its caller stops the container. */
export async function startLabContainer(inside: string): Promise<StartedTestContainer> {
  const { postgres } = await buildImages({ only: 'postgres' });
  const { outputFiles } = await build({
    entryPoints: [inside],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    external: ['pg-native'],
    banner: { js: banner },
  });
  const container = await new GenericContainer(postgres)
    // A shell reaps what the clusters leave behind.
    .withEntrypoint(['bash', '-c', 'while :; do sleep 1; done'])
    .withUser('10001:10001')
    .withSharedMemorySize(256 * 1024 * 1024)
    .withTmpFs({ [labFolder]: 'rw,uid=10001,gid=10001,mode=0700' })
    .start();
  const content = outputFiles[0]?.text ?? '';
  await container.copyContentToContainer([{ content, target: insideProgram }]);
  return container;
}
