// Brings images from Docker into the nodes' containerd. A node that has the very image (by Docker's id, kept as a label
// beside the name) is left alone; the others read one archive at the same time.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cachePath, withLock } from '../cache.ts';
import type { ClusterNode } from '../cluster.ts';
import { run } from '../process.ts';
import { step } from '../progress.ts';
import { PATHS } from './components.ts';
import { imagesFolder } from './containers.ts';

const ID_LABEL = 'meridian.test/docker-id';

export async function loadImages(nodes: readonly ClusterNode[], tags: readonly string[]): Promise<void> {
  if (tags.length === 0) return;
  const ids = new Map<string, string>();
  for (const tag of new Set(tags)) {
    ids.set(tag, (await run(['docker', 'image', 'inspect', '--format', '{{.Id}}', tag])).trim());
  }
  const regions = nodes.filter((node) => node.region !== null);
  await withLock('load-images', async () => {
    const lacking = await Promise.all(
      regions.map(async (node) => ({ node, tags: missingImages(ids, await imagesOf(node)) })),
    );
    const wanted = [...new Set(lacking.flatMap((one) => one.tags))];
    if (wanted.length === 0) return;
    await step(`load ${wanted.join(', ')}`, async () => {
      const archive = `${process.pid}.tar`;
      try {
        await run(['docker', 'save', '-o', join(imagesFolder(), archive), ...wanted], {
          logFile: cachePath('logs', 'docker-save.log'),
        });
        await Promise.all(lacking.map((one) => importInto(one.node, archive, one.tags, ids)));
      } finally {
        await rm(join(imagesFolder(), archive), { force: true });
      }
    });
  });
}

async function importInto(
  node: ClusterNode,
  archive: string,
  tags: readonly string[],
  ids: ReadonlyMap<string, string>,
): Promise<void> {
  if (tags.length === 0) return;
  await run([...ctr(node), 'images', 'import', `${PATHS.images}/${archive}`]);
  for (const tag of tags) {
    await run([...ctr(node), 'images', 'label', fullName(tag), `${ID_LABEL}=${ids.get(tag) ?? ''}`]);
  }
}

async function imagesOf(node: ClusterNode): Promise<string> {
  return run([...ctr(node), 'images', 'list']);
}

/** `listing` is what `ctr images list` prints: a line per image, its name first and its labels last. */
export function missingImages(ids: ReadonlyMap<string, string>, listing: string): string[] {
  const lines = listing.split('\n');
  return [...ids].filter(([tag, id]) => !lines.some((line) => has(line, tag, id))).map(([tag]) => tag);
}

function has(line: string, tag: string, id: string): boolean {
  return line.startsWith(`${fullName(tag)} `) && line.includes(`${ID_LABEL}=${id}`);
}

/** As containerd and the kubelet write a name that says no registry. */
export function fullName(tag: string): string {
  const [first = '', ...rest] = tag.split('/');
  if (rest.length === 0) return `docker.io/library/${tag}`;
  return first.includes('.') || first.includes(':') || first === 'localhost' ? tag : `docker.io/${tag}`;
}

function ctr(node: ClusterNode): string[] {
  if (node.container === null) throw new Error(`${node.name} is no container`);
  return ['docker', 'exec', node.container, 'ctr', '-n', 'k8s.io'];
}
