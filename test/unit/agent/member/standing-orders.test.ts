import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { StandingOrders } from '#agent/member/standing-orders.ts';
import { PromiseFile } from '#agent/promise/file.ts';
import { promiseWith, self } from '../orders/orders-fixture.ts';

const quiet = { info: () => {}, warn: () => {} };

it('a fence takes nothing back that was promised or found between its decision and its promise', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-standing-'));
  const { promise } = await PromiseFile.open(join(folder, 'promise'), () => self.incarnation);
  t.after(async () => {
    await promise.close();
    await rm(folder, { recursive: true, force: true });
  });
  await promise.update(() => promiseWith({ shardUid: 'uid', epoch: 1, grantee: 'b-0/x', generation: 4 }));
  const standing = new StandingOrders({
    configuration: { podName: self.name, namespace: 'test', shard: 'main', paths: { orders: folder } },
    promise,
    orders: undefined,
    log: quiet,
  } as unknown as ConstructorParameters<typeof StandingOrders>[0]);
  const decision = standing.decideFence({ shardUid: 'uid', member: self, epoch: 2, by: 'operator', handover: false });
  if (decision.kind !== 'Fence') throw new Error(decision.message);
  // The data was made, or a longer lease granted, just then.
  await promise.update((current) => ({ ...current, systemIdentifier: '7', longestLeaseMs: 3_000 }));
  await standing.promiseFence(decision);
  const wanted = { shardUid: 'uid', epoch: 2, systemIdentifier: '7', longestLeaseMs: 3_000 };
  assert.deepEqual(standing.promise, promiseWith(wanted));
});
