// Builds an image once per content: the tag is a hash of the Dockerfile, the build context, the arguments and the base
// image, so an unchanged image costs one `docker image inspect`. It works with Docker's old builder, too: a machine's
// packaged Docker may have no buildx.
import { readFile } from 'node:fs/promises';
import { cachePath, withLock } from '../cache.ts';
import { keyOf, keyOfFolder } from '../content-key.ts';
import { run, succeeds } from '../process.ts';
import { step } from '../progress.ts';
import { BASE_IMAGE, ensureBaseImage } from './base-image.ts';

/** Builds kept per repository: other checkouts may be at other contents. */
const KEPT_BUILDS = 6;

export interface ImageSource {
  /** Name without a tag, `meridian/postgres`. */
  readonly repository: string;
  /** Absolute path; may lie outside the context. */
  readonly dockerfile: string;
  /** Absolute path of the folder that the Dockerfile copies from; hashed whole, so it should hold nothing else. */
  readonly context: string;
  readonly arguments?: Readonly<Record<string, string>>;
}

/** Returns the tag, `meridian/postgres:0123456789abcdef`. */
export async function buildImage(source: ImageSource): Promise<string> {
  await ensureBaseImage();
  const tag = `${source.repository}:${await imageKey(source, await baseImageId())}`;
  const exists = (): Promise<boolean> => succeeds(run, ['docker', 'image', 'inspect', tag]);
  if (await exists()) return tag;
  const name = source.repository.replaceAll('/', '-');
  return withLock(`image-${name}`, async () => {
    if (await exists()) return tag;
    const logFile = cachePath('logs', `image-${name}.log`);
    await step(`build image ${tag}`, () => run(buildCommand(source, tag), { logFile }));
    await removeOldest(source.repository);
    return tag;
  });
}

/** Docker lists the newest first, and refuses to remove what a container runs from. */
async function removeOldest(repository: string): Promise<void> {
  const listing = await run(['docker', 'image', 'ls', '--format', '{{.Repository}}:{{.Tag}}', repository]);
  for (const tag of tooOld(listing)) await succeeds(run, ['docker', 'image', 'rm', tag]);
}

export function tooOld(listing: string): string[] {
  const keyed = listing.split('\n').filter((tag) => /:[0-9a-f]{16}$/.test(tag));
  return keyed.slice(KEPT_BUILDS);
}

export async function imageKey(source: ImageSource, baseImageId: string): Promise<string> {
  return keyOf([
    await readFile(source.dockerfile),
    await keyOfFolder(source.context),
    JSON.stringify(Object.entries(source.arguments ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    baseImageId,
  ]);
}

export function buildCommand(source: ImageSource, tag: string): string[] {
  const build = Object.entries(source.arguments ?? {}).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]);
  return ['docker', 'build', '-f', source.dockerfile, '-t', tag, '--network', 'host', ...build, source.context];
}

async function baseImageId(): Promise<string> {
  return (await run(['docker', 'image', 'inspect', '--format', '{{.Id}}', BASE_IMAGE])).trim();
}
