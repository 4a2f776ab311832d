// Cuts between two places, two-way or one-way. A cut drops packets where they leave: in the sending node's mangle
// POSTROUTING, which forwarded packets (pods') and the node's own both pass, and where the address of a service has
// already become that of a pod. Dropped, not refused: as a broken line does, and the other side notices by its timeouts.
import { FAULT_CHAIN } from '../local/components.ts';
import type { Run } from '../process.ts';
import { networksOf, type TargetNode, type Targets } from './targets.ts';

export interface CutOptions {
  /** Only packets from the first place to the second are lost. */
  readonly oneWay?: boolean;
}

export interface NetworkFaults {
  /** Between two regions, two nodes, or a region and `api`. */
  cut(from: string, to: string, options?: CutOptions): Promise<void>;
  /** Takes back every cut between the two, whichever way it was. */
  heal(from: string, to: string): Promise<void>;
  /** Takes back every cut. */
  healNetwork(): Promise<void>;
}

const TABLE = ['-w', '-t', 'mangle'] as const;

export function createNetworkFaults(targets: Targets, run: Run): NetworkFaults {
  return {
    cut: async (from, to, options = {}) => {
      const commands = cutCommands(targets.find(from), targets.find(to));
      if (options.oneWay !== true) commands.push(...cutCommands(targets.find(to), targets.find(from)));
      await ensureChains(targets.all, run);
      for (const argv of commands) await run(argv);
    },
    heal: async (from, to) => {
      const a = targets.find(from);
      const b = targets.find(to);
      const both = [...pairs(a, b), ...pairs(b, a)];
      for (const argv of both.flatMap(([sender, receiver]) => healCommands(sender, receiver))) await run(argv);
    },
    healNetwork: async () => {
      await ensureChains(targets.all, run);
      await Promise.all(targets.all.map((node) => run(inNode(node, ['iptables', ...TABLE, '-F', FAULT_CHAIN]))));
    },
  };
}

function pairs(from: readonly TargetNode[], to: readonly TargetNode[]): [TargetNode, TargetNode][] {
  return from.flatMap((sender) =>
    to
      .filter((receiver) => receiver.name !== sender.name)
      .map((receiver): [TargetNode, TargetNode] => [sender, receiver]),
  );
}

export function cutCommands(from: readonly TargetNode[], to: readonly TargetNode[]): string[][] {
  return pairs(from, to).flatMap(([sender, receiver]) =>
    networksOf(receiver).map((network) =>
      inNode(sender, ['iptables', ...TABLE, '-A', FAULT_CHAIN, '-d', network, '-j', 'DROP']),
    ),
  );
}

/** Cutting twice makes two rules: each is removed until none is left. */
export function healCommands(sender: TargetNode, receiver: TargetNode): string[][] {
  const script = 'while iptables -w -t mangle -D "$1" -d "$2" -j DROP 2>/dev/null; do :; done';
  return networksOf(receiver).map((network) => inNode(sender, ['sh', '-c', script, 'sh', FAULT_CHAIN, network]));
}

/** The local provider's nodes have the chain from the start; k3d's get it with the first cut. */
async function ensureChains(nodes: readonly TargetNode[], run: Run): Promise<void> {
  const script =
    'iptables -w -t mangle -n -L "$1" >/dev/null 2>&1 || { iptables -w -t mangle -N "$1" && iptables -w -t mangle -A POSTROUTING -j "$1"; }';
  await Promise.all(nodes.map((node) => run(inNode(node, ['sh', '-c', script, 'sh', FAULT_CHAIN]))));
}

export function inNode(node: TargetNode, argv: readonly string[]): string[] {
  return ['docker', 'exec', node.container, ...argv];
}
