/** One-way cuts between each two of operator, primary's agent and Postgres, followers, routers and clients. */

import { networkInterfaces } from 'node:os';
import type { Speaker } from '#cluster/faults/addresses.ts';
import type { Fault, Field } from './fault.ts';
import type { Pod } from './installation.ts';

type Party = 'operators' | 'primary' | 'followers' | 'routers' | 'clients';

const speaker = ({ address, node }: Pod): Speaker => ({ address, node });

function partyOf(field: Field, party: Party): Speaker[] {
  switch (party) {
    case 'operators':
      return field.operators.map(speaker);
    case 'primary':
      return [speaker(field.primary)];
    case 'followers':
      return field.followers.map(speaker);
    case 'routers':
      return field.routers.map(speaker);
    case 'clients':
      return thisMachine(field);
  }
}

/** The clients run here: by every address that this machine has in a network of the nodes. */
function thisMachine({ cluster }: Field): Speaker[] {
  const prefixes = new Set(cluster.nodes.map(({ address }) => address.split('.').slice(0, 3).join('.')));
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ address }) => prefixes.has(address.split('.').slice(0, 3).join('.')))
    .map(({ address }) => ({ address, node: null }));
}

interface Line {
  readonly from: Party;
  readonly to: Party;
  readonly expected: Fault['expected'];
  readonly silentAtMostMs?: number;
}

const lines: readonly Line[] = [
  { from: 'operators', to: 'primary', expected: 'same epoch', silentAtMostMs: 4_000 },
  { from: 'primary', to: 'operators', expected: 'same epoch', silentAtMostMs: 4_000 },
  { from: 'operators', to: 'followers', expected: 'same epoch', silentAtMostMs: 4_000 },
  { from: 'followers', to: 'operators', expected: 'same epoch', silentAtMostMs: 4_000 },
  { from: 'primary', to: 'followers', expected: 'new epoch', silentAtMostMs: 20_000 },
  { from: 'followers', to: 'primary', expected: 'new epoch', silentAtMostMs: 20_000 },
  { from: 'routers', to: 'primary', expected: 'any' },
  { from: 'primary', to: 'routers', expected: 'any' },
  { from: 'routers', to: 'followers', expected: 'same epoch', silentAtMostMs: 4_000 },
  { from: 'followers', to: 'routers', expected: 'same epoch', silentAtMostMs: 4_000 },
  { from: 'clients', to: 'routers', expected: 'same epoch' },
  { from: 'routers', to: 'clients', expected: 'same epoch' },
];

export const lineFaults: readonly Fault[] = lines.map(({ from, to, expected, silentAtMostMs }) => ({
  name: `${from}-unheard-by-${to}`,
  about: `what ${from} send${from === 'primary' ? 's' : ''} to ${to} is lost`,
  expected,
  lastsMs: expected === 'new epoch' ? 30_000 : 15_000,
  ...(silentAtMostMs === undefined ? {} : { silentAtMostMs }),
  answersMayBeLate: [from, to].includes('routers') || [from, to].includes('clients'),
  inject: async (field) => {
    for (const sender of partyOf(field, from)) {
      for (const receiver of partyOf(field, to)) await field.cluster.faults.mute(sender, receiver);
    }
    return () => field.cluster.faults.healNetwork();
  },
}));
