/** Orders that a member `a-0` would take, for tests to change. */

import { firstPromise, type PromiseRecord } from '#agent/promise/record.ts';
import type { MemberIdentity } from '#core/identity.ts';
import type { Orders } from '#core/protocol/orders.ts';

export const self: MemberIdentity = { name: 'a-0', incarnation: 'aaaaaaaaaaaaaaaa' };
export const other: MemberIdentity = { name: 'b-0', incarnation: 'bbbbbbbbbbbbbbbb' };
export const third: MemberIdentity = { name: 'c-0', incarnation: 'cccccccccccccccc' };

export const source = { ...other, address: '10.0.0.2', tunnelPort: 8421 };

export function ordersWith(wish: Partial<Orders>): Orders {
  return {
    shard: { namespace: 'test', name: 'main', uid: 'uid', keyspace: 'shop', database: 'shop' },
    member: self,
    role: 'Follower',
    epoch: 1,
    leaderTerm: 1,
    sequence: 1,
    generation: 1,
    source,
    synchronous: { acknowledgements: 0, members: [] },
    slots: [other],
    parameters: {},
    restartNonce: '',
    lease: { members: [], required: 0, kubernetes: false },
    timeline: 1,
    history: [],
    mayRewind: false,
    takeover: false,
    ...wish,
  };
}

export function promiseWith(wish: Partial<PromiseRecord>): PromiseRecord {
  return { ...firstPromise(self.incarnation), ...wish };
}
