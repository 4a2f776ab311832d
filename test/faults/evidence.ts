/** What is kept of a round that failed: the objects, events, and logs of everybody who took part. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemNamespace } from '../../demo/installation.ts';
import type { Installation } from './installation.ts';

const LINES = '5000';

/** Best effort: what can't be had is left out. Returns the folder. */
export async function keepEvidence(installation: Installation, folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  const keep = async (file: string, ask: Promise<string>): Promise<void> => {
    const text = await ask.catch((error: unknown) => String(error));
    await writeFile(join(folder, file), text);
  };
  const { cluster, namespace } = installation;
  await keep(
    'objects.yaml',
    installation.kubectl(['get', 'shards,regionalreplicas,keyspaces,pods,leases', '-o', 'yaml']),
  );
  await keep('events.txt', installation.kubectl(['get', 'events', '--sort-by=.lastTimestamp']));
  const members = await installation.members().catch(() => []);
  const routers = await installation.routers().catch(() => []);
  const operators = await installation.operators().catch(() => []);
  const logs = (pod: string, where: string, ...more: string[]): Promise<string> =>
    cluster.kubectl(['logs', pod, '-n', where, '--tail', LINES, ...more]);
  for (const { name } of [...members, ...routers]) {
    await keep(`${name}.log`, logs(name, namespace));
    await keep(`${name}.previous.log`, logs(name, namespace, '--previous'));
  }
  for (const { name } of operators) {
    await keep(`${name}.log`, logs(name, systemNamespace));
    await keep(`${name}.previous.log`, logs(name, systemNamespace, '--previous'));
  }
  return folder;
}
