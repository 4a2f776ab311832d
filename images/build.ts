/**
 * Builds the two images, each once per content: bundles our programs with esbuild, builds the init, lays a build context
 * out (and nothing else in it, since the image's tag is a hash over all of it), and leaves the rest to `buildImage`.
 * As a program, `node images/build.ts [postgres|programs]`, it prints the tags as JSON.
 * The layers are ordered by how often they change: packages, Node, our code; a change of code builds in seconds.
 */
import { execFile } from 'node:child_process';
import { copyFile, link, mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { buildImage } from '#cluster/docker/image.ts';

export type ImageName = 'postgres' | 'programs';
export type ImageTags<Name extends ImageName = ImageName> = Readonly<Record<Name, string>>;

const root = fileURLToPath(new URL('..', import.meta.url));
const runProgram = promisify(execFile);
const require = createRequire(import.meta.url);

export const PG_MAJOR = '17';

/** Bundles by image; a program that has a second thread has an entry for it. */
const entries: Readonly<Record<ImageName, readonly { readonly source: string; readonly bundle: string }[]>> = {
  postgres: [
    { source: 'agent/main.ts', bundle: 'agent.mjs' },
    { source: 'agent/lease/worker.ts', bundle: 'agent-lease.mjs' },
  ],
  programs: [
    { source: 'operator/main.ts', bundle: 'operator.mjs' },
    { source: 'router/main.ts', bundle: 'router.mjs' },
    { source: 'router/thread.ts', bundle: 'router-thread.mjs' },
  ],
};

export async function buildImages(): Promise<ImageTags>;
export async function buildImages<Name extends ImageName>(options: { readonly only: Name }): Promise<ImageTags<Name>>;
export async function buildImages(options: { readonly only?: ImageName } = {}): Promise<Partial<ImageTags>> {
  const names: readonly ImageName[] = options.only === undefined ? ['postgres', 'programs'] : [options.only];
  const tags: Partial<Record<ImageName, string>> = {};
  for (const name of names) tags[name] = await buildOne(name);
  return tags;
}

async function buildOne(name: ImageName): Promise<string> {
  const context = await mkdtemp(join(tmpdir(), `meridian-image-${name}-`));
  try {
    await layOut(name, context);
    return await buildImage({
      repository: `meridian/${name}`,
      dockerfile: join(root, 'images', name, 'Dockerfile'),
      context,
      ...(name === 'postgres' ? { arguments: { PG_MAJOR } } : {}),
    });
  } finally {
    await rm(context, { recursive: true, force: true });
  }
}

/** `node/` and `root/` are copied to / by the Dockerfile, in this order. */
async function layOut(name: ImageName, context: string): Promise<void> {
  const node = join(context, 'node', 'usr', 'local', 'bin');
  const binaries = join(context, 'root', 'usr', 'local', 'bin');
  const bundles = join(context, 'root', 'opt', 'meridian');
  for (const folder of [node, binaries, bundles]) await mkdir(folder, { recursive: true });
  await linkOrCopy(join(dirname(require.resolve('node/package.json')), 'bin', 'node'), join(node, 'node'));
  await buildInit(join(binaries, 'meridian-init'));
  let count = 0;
  for (const { source, bundle } of entries[name]) {
    if (!(await exists(join(root, source)))) continue;
    await bundleProgram(join(root, source), join(bundles, bundle));
    count += 1;
  }
  if (count === 0) throw new Error(`there is no program for the image ${name} yet`);
  if (name === 'programs') await copyParser(bundles);
}

/** The parser's WebAssembly is looked for beside the script that loads it, which is the bundle. */
export async function copyParser(folder: string): Promise<void> {
  await copyFile(require.resolve('libpg-query/wasm/libpg-query.wasm'), join(folder, 'libpg-query.wasm'));
}

/** `packages` is where packages are looked for besides the folders above `source`. */
export async function bundleProgram(source: string, outfile: string, packages?: string): Promise<void> {
  await build({
    entryPoints: [source],
    outfile,
    absWorkingDir: root,
    ...(packages === undefined ? {} : { nodePaths: [packages] }),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    // Keeping names gives each function expression its name anew whenever it is made: half of the router's own time for a statement.
    keepNames: !source.startsWith(join(root, 'router')),
    legalComments: 'none',
    logLevel: 'warning',
    // Packages in CommonJS call require and read their own place, which a module doesn't have.
    banner: {
      js: [
        "import { createRequire as makeRequire } from 'node:module';",
        "import { dirname as folderOf } from 'node:path';",
        "import { fileURLToPath as pathOf } from 'node:url';",
        'const require = makeRequire(import.meta.url);',
        'const __filename = pathOf(import.meta.url);',
        'const __dirname = folderOf(__filename);',
      ].join('\n'),
    },
    // Optional packages for other platforms, never loaded here.
    external: ['pg-native', 'pg-cloudflare'],
  });
}

/** Static, and the same bytes from the same source. */
export async function buildInit(outfile: string): Promise<void> {
  try {
    await runProgram('go', ['build', '-trimpath', '-buildvcs=false', '-ldflags=-s -w', '-o', outfile, '.'], {
      cwd: join(root, 'agent', 'init'),
      env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=mod', GOWORK: 'off', GOOS: 'linux' },
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new Error('building the images needs Go (1.22 or later) on the PATH: https://go.dev/dl', { cause: error });
  }
}

/** A hundred megabytes need no copy on the same file system. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  await link(from, to).catch(() => copyFile(from, to));
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

if (import.meta.main) {
  const only = process.argv[2];
  if (only !== undefined && only !== 'postgres' && only !== 'programs') {
    process.stderr.write('usage: node images/build.ts [postgres|programs]\n');
    process.exit(64);
  }
  const tags = only === undefined ? await buildImages() : await buildImages({ only });
  process.stdout.write(`${JSON.stringify(tags, null, 2)}\n`);
}
