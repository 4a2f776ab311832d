import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readOrders, writeOrders } from '#agent/orders/store.ts';
import { ordersWith, other, self, source } from './orders-fixture.ts';

describe('the orders on the volume', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-orders-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('come back as they were', async () => {
    const path = join(folder, 'orders.json');
    const orders = ordersWith({ parameters: { work_mem: '8MB' } });
    await writeOrders(path, orders);
    assert.deepEqual(await readOrders(path, self), orders);
  });

  it('are nothing to another incarnation', async () => {
    const path = join(folder, 'other.json');
    await writeOrders(path, ordersWith({}));
    assert.equal(await readOrders(path, { ...self, incarnation: other.incarnation }), undefined);
  });

  it('come back also where the promise has outdated them: a fenced member runs by what it was', async () => {
    const path = join(folder, 'outdated.json');
    const orders = ordersWith({ epoch: 1, source });
    await writeOrders(path, orders);
    assert.deepEqual(await readOrders(path, self), orders);
  });

  it('are none where the file is missing or half written', async () => {
    assert.equal(await readOrders(join(folder, 'missing.json'), self), undefined);
    const path = join(folder, 'half.json');
    await writeFile(path, JSON.stringify(ordersWith({})).slice(0, 40));
    assert.equal(await readOrders(path, self), undefined);
  });
});
