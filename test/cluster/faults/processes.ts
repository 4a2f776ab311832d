// Processes inside a pod, signalled from the pod's node: the pod's own image may hold neither a shell nor kill, and its
// users may not signal each other. Processes are found through containerd, by the id of the container that the pod's
// status names.
import type { ClusterNode } from '../cluster.ts';
import type { Run } from '../process.ts';
import type { Kubectl } from './faults.ts';

export interface ProcessTarget {
  /** Name of a pod, `NAMESPACE/NAME` or `NAME` in `default`. */
  readonly pod: string;
  /** The pod's first container if left out. */
  readonly container?: string | undefined;
  /**
   * Extended regular expression (grep -E) over the command line, its arguments joined by spaces: `^postgres: walsender`.
   * Left out: process 1 of the container for a signal that ends it, all its processes for SIGSTOP and SIGCONT.
   */
  readonly process?: string | undefined;
}

export interface ProcessFaults {
  /** Sends the signal (a name without SIG) and returns the process ids, as the node numbers them. Throws if none matches. */
  signal(target: ProcessTarget, signal: string): Promise<number[]>;
}

interface PodObject {
  readonly spec: { readonly nodeName?: string };
  readonly status?: {
    readonly containerStatuses?: readonly { readonly name: string; readonly containerID?: string }[];
  };
}

export function createProcessFaults(nodes: readonly ClusterNode[], kubectl: Kubectl, run: Run): ProcessFaults {
  return {
    signal: async (target, signal) => {
      const [namespace, name] = splitPodName(target.pod);
      const pod = JSON.parse(await kubectl(['get', 'pod', name, '-n', namespace, '-o', 'json'])) as PodObject;
      const node = nodes.find((candidate) => candidate.name === pod.spec.nodeName);
      if (node?.container == null) throw new Error(`pod ${target.pod} runs on no container of this machine`);
      const containerId = containerIdOf(pod, target);
      const output = await run(signalCommand(node.container, containerId, signal, target.process));
      const pids = output
        .split(/\s+/)
        .filter((word) => word !== '')
        .map(Number);
      if (pids.length === 0) throw new Error(`no process of pod ${target.pod} matches ${target.process ?? 'anything'}`);
      return pids;
    },
  };
}

export function splitPodName(pod: string): [namespace: string, name: string] {
  const [first = '', second] = pod.split('/');
  return second === undefined ? ['default', first] : [first, second];
}

function containerIdOf(pod: PodObject, target: ProcessTarget): string {
  const statuses = pod.status?.containerStatuses ?? [];
  const found =
    target.container === undefined ? statuses[0] : statuses.find((status) => status.name === target.container);
  const id = found?.containerID?.split('://')[1];
  if (id === undefined)
    throw new Error(`pod ${target.pod} has no running container ${target.container ?? ''}`.trimEnd());
  return id;
}

/**
 * One shell in the node finds and signals, so that little time lies between. All matching processes get the signal in
 * one `kill`. The process ids that `ctr task ps` prints are the node's; the first is the container's process 1.
 */
const SCRIPT = `
id=$1 signal=$2 pattern=$3 all=$4
chosen=
for pid in $(ctr -n k8s.io tasks ps "$id" | awk 'NR > 1 { print $1 }'); do
  if [ -n "$pattern" ]; then
    tr '\\0' ' ' < /proc/$pid/cmdline 2>/dev/null | grep -Eq -- "$pattern" || continue
  fi
  chosen="$chosen $pid"
  [ -n "$pattern" ] || [ "$all" = all ] || break
done
[ -z "$chosen" ] || kill -s "$signal" $chosen
echo $chosen
`;

export function signalCommand(nodeContainer: string, id: string, signal: string, pattern?: string): string[] {
  const name = signal.replace(/^SIG/, '');
  if (!/^[A-Z0-9]+$/.test(name)) throw new Error(`not a signal: ${signal}`);
  const scope = name === 'STOP' || name === 'CONT' ? 'all' : 'first';
  return ['docker', 'exec', nodeContainer, 'sh', '-c', SCRIPT, 'sh', id, name, pattern ?? '', scope];
}
