// A whole node: frozen (its pods with it: their cgroups lie inside the container's), thawed, killed, started again.
import type { Run } from '../process.ts';
import type { TargetNode, Targets } from './targets.ts';

export interface NodeFaults {
  /** Freezes every process of the node; connections to it stay open and silent. `NotReady` after some 16 s. */
  pause(place: string): Promise<void>;
  /** Thaws a frozen node, starts a killed one. */
  resume(place: string): Promise<void>;
  /** Ends every process of the node at once, as a power cut does; its volumes and images stay. */
  kill(place: string): Promise<void>;
  startAll(): Promise<void>;
}

export function createNodeFaults(targets: Targets, run: Run): NodeFaults {
  const stateOf = async (node: TargetNode): Promise<string> =>
    (await run(['docker', 'container', 'inspect', '--format', '{{.State.Status}}', node.container])).trim();
  const startNodes = async (nodes: readonly TargetNode[]): Promise<void> => {
    for (const node of nodes) {
      const state = await stateOf(node);
      if (state === 'paused') await run(['docker', 'unpause', node.container]);
      else if (state !== 'running') await run(['docker', 'start', node.container]);
    }
  };
  return {
    pause: async (place) => {
      for (const node of targets.find(place)) {
        if ((await stateOf(node)) !== 'paused') await run(['docker', 'pause', node.container]);
      }
    },
    resume: (place) => startNodes(targets.find(place)),
    kill: async (place) => {
      for (const node of targets.find(place)) {
        // A frozen process can't even be killed before the freezer lets it go.
        if ((await stateOf(node)) === 'paused') await run(['docker', 'unpause', node.container]);
        await run(['docker', 'kill', node.container]);
      }
    },
    startAll: () => startNodes(targets.all),
  };
}
