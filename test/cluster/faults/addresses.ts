// Cuts between two single addresses, pods or this machine, one way: finer than a cut between places, so that it can be
// said who of a region doesn't hear whom. Where the receiver is a pod, its node drops what it would hand on to it; where
// the receiver is this machine, the sender's node does. Both rules lie in the chain of the other cuts, which `heal`
// without places empties. Packets carry a pod's own address there: those of a service were rewritten before.
import { FAULT_CHAIN } from '../local/components.ts';
import type { Run } from '../process.ts';
import { inNode } from './network.ts';
import type { TargetNode, Targets } from './targets.ts';

export interface Speaker {
  readonly address: string;
  /** The pod's node; null for this machine. */
  readonly node: string | null;
}

export interface AddressFaults {
  /** What the first sends to the second is lost, until `healAll` or `healNetwork`. */
  mute(from: Speaker, to: Speaker): Promise<void>;
}

export function createAddressFaults(targets: Targets, run: Run): AddressFaults {
  const nodeOf = (name: string): TargetNode => {
    const [node] = targets.find(name);
    if (node === undefined) throw new Error(`no such node: ${name}`);
    return node;
  };
  return {
    mute: async (from, to) => {
      await run(muteCommand(from, to, nodeOf));
    },
  };
}

export function muteCommand(from: Speaker, to: Speaker, nodeOf: (name: string) => TargetNode): string[] {
  const at = to.node ?? from.node;
  if (at === null) throw new Error('one of the two must be a pod');
  const match = ['-s', `${from.address}/32`, '-d', `${to.address}/32`];
  return inNode(nodeOf(at), ['iptables', '-w', '-t', 'mangle', '-A', FAULT_CHAIN, ...match, '-j', 'DROP']);
}
