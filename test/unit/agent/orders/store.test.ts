import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readOrders, writeOrders } from '#agent/orders/store.ts';
import { replicationName } from '#core/identity.ts';
import { ordersWith, other, promiseWith, self, source, third } from './orders-fixture.ts';

describe('the orders on the volume', () => {
  const promise = promiseWith({ epoch: 1, grantee: replicationName(other) });
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-orders-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('come back as they were', async () => {
    const path = join(folder, 'orders.json');
    const orders = ordersWith({ parameters: { work_mem: '8MB' } });
    await writeOrders(path, orders);
    assert.deepEqual(await readOrders(path, self, promise), orders);
  });

  it('are nothing to another incarnation', async () => {
    const path = join(folder, 'other.json');
    await writeOrders(path, ordersWith({}));
    assert.equal(await readOrders(path, { ...self, incarnation: other.incarnation }, promise), undefined);
  });

  it('are none once the promise outdates them: it was written, and the orders with it were not', async () => {
    const path = join(folder, 'outdated.json');
    await writeOrders(path, ordersWith({ epoch: 1 }));
    assert.equal(await readOrders(path, self, { ...promise, epoch: 2 }), undefined);
    assert.equal(await readOrders(path, self, { ...promise, grantee: replicationName(third) }), undefined);
  });

  it('stay at the epoch that was promised to nobody yet, and where they name nobody', async () => {
    const path = join(folder, 'nobody.json');
    const follower = ordersWith({ source });
    await writeOrders(path, follower);
    assert.deepEqual(await readOrders(path, self, { ...promise, grantee: '' }), follower);
    const { source: _, ...hold } = ordersWith({ role: 'Hold' });
    await writeOrders(path, hold);
    assert.deepEqual(await readOrders(path, self, promise), hold);
  });

  it('are none where the file is missing or half written', async () => {
    assert.equal(await readOrders(join(folder, 'missing.json'), self, promise), undefined);
    const path = join(folder, 'half.json');
    await writeFile(path, JSON.stringify(ordersWith({})).slice(0, 40));
    assert.equal(await readOrders(path, self, promise), undefined);
  });
});
