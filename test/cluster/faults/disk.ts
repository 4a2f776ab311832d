// Volumes of a bounded size, and what happens when one is full. The cluster's own volumes are folders of one disk, whose
// end nobody wants to reach; these are file systems in a node's memory, made beforehand for a storage class of their own
// that no provisioner serves. They are gone when their node is killed: for tests that fill them, not for power cuts.
import { stringify } from 'yaml';
import { PATHS } from '../local/components.ts';
import type { Run } from '../process.ts';
import type { Kubectl } from './faults.ts';
import { inNode } from './network.ts';
import type { TargetNode, Targets } from './targets.ts';

export const BOUNDED_CLASS = 'meridian-bounded';

export interface DiskFaults {
  /** One volume of this size in each of the places, for the next claims of class `meridian-bounded` there. */
  makeBoundedVolumes(places: readonly string[], megabytes: number): Promise<void>;
  /** Takes what is left of a pod's bounded volume. Throws where the pod has none. */
  fillVolume(namespace: string, pod: string): Promise<void>;
  /** Gives back what `fillVolume` took. */
  freeVolume(namespace: string, pod: string): Promise<void>;
  /** Removes all bounded volumes, those still in use by a pod, too. */
  removeBoundedVolumes(): Promise<void>;
}

/** In the volume's root, where Postgres keeps nothing. */
const FILLER = '.filler';
const PREFIX = 'meridian-bounded-';

export function createDiskFaults(targets: Targets, kubectl: Kubectl, run: Run): DiskFaults {
  const at = (node: TargetNode, script: string, ...values: string[]): Promise<string> =>
    run(inNode(node, ['sh', '-euc', script, 'sh', ...values]));

  /** The node and the folder there of a pod's volume. */
  const volumeOf = async (namespace: string, pod: string): Promise<{ node: TargetNode; folder: string }> => {
    const claims = await kubectl([
      'get',
      'pod',
      pod,
      '-n',
      namespace,
      '-o',
      'jsonpath={.spec.nodeName} {.spec.volumes[*].persistentVolumeClaim.claimName}',
    ]);
    const [nodeName = '', claim = ''] = claims.trim().split(' ');
    const jsonpath = 'jsonpath={.spec.volumeName}';
    const volume = (await kubectl(['get', 'pvc', claim, '-n', namespace, '-o', jsonpath])).trim();
    if (!volume.startsWith(PREFIX)) throw new Error(`pod ${namespace}/${pod} has no volume of class ${BOUNDED_CLASS}`);
    const [node] = targets.find(nodeName);
    if (node === undefined) throw new Error(`no such node: ${nodeName}`);
    return { node, folder: `${PATHS.volumes}/${volume}` };
  };

  return {
    makeBoundedVolumes: async (places, megabytes) => {
      const nodes = places.flatMap((place) => targets.find(place));
      const volumes = nodes.map((node) => ({ node, name: `${PREFIX}${node.name}-${Date.now().toString(36)}` }));
      for (const { node, name } of volumes) {
        const script = 'mkdir -p "$1" && mount -t tmpfs -o "size=$2m,mode=0755" tmpfs "$1"';
        await at(node, script, `${PATHS.volumes}/${name}`, String(megabytes));
      }
      const objects = [boundedClass(), ...volumes.map(({ node, name }) => boundedVolume(node.name, name, megabytes))];
      await kubectl(['apply', '-f', '-'], objects.map((object) => stringify(object)).join('---\n'));
    },
    fillVolume: async (namespace, pod) => {
      const { node, folder } = await volumeOf(namespace, pod);
      // Until no block is left; then what little a smaller write finds.
      const script =
        'dd if=/dev/zero bs=1M 2>/dev/null >> "$1" || true; dd if=/dev/zero bs=4k 2>/dev/null >> "$1" || true';
      await at(node, script, `${folder}/${FILLER}`);
    },
    freeVolume: async (namespace, pod) => {
      const { node, folder } = await volumeOf(namespace, pod);
      await at(node, 'rm -f "$1"', `${folder}/${FILLER}`);
    },
    removeBoundedVolumes: async () => {
      const names = await kubectl(['get', 'pv', '-o', 'jsonpath={.items[*].metadata.name}']);
      const ours = names.split(' ').filter((name) => name.startsWith(PREFIX));
      if (ours.length > 0) await kubectl(['delete', 'pv', ...ours, '--wait=false']);
      const script =
        'for folder in "$1"/"$2"*; do [ -d "$folder" ] || continue; umount -l "$folder" || true; rmdir "$folder"; done';
      for (const node of targets.all) await at(node, script, PATHS.volumes, PREFIX);
    },
  };
}

function boundedClass(): unknown {
  return {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name: BOUNDED_CLASS },
    provisioner: 'kubernetes.io/no-provisioner',
    volumeBindingMode: 'WaitForFirstConsumer',
  };
}

function boundedVolume(nodeName: string, name: string, megabytes: number): unknown {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name },
    spec: {
      capacity: { storage: `${megabytes}Mi` },
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName: BOUNDED_CLASS,
      local: { path: `${PATHS.volumes}/${name}` },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [nodeName] }] },
          ],
        },
      },
    },
  };
}
