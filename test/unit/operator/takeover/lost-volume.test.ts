/** A primary that loses its volume, and whose pod is back before anybody missed it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Replica } from './replica.ts';
import { World } from './world.ts';

for (const acknowledgements of [0, 1])
  test(`a primary whose name comes back on an empty volume is failed over, k = ${acknowledgements}`, async () => {
    const world = new World(3, { durability: { acknowledgements, scope: 'AnyMember', onLoss: 'Block' } });
    Replica.start(world);
    assert.ok(await world.time.run(10_000, () => world.isWell));
    await world.time.run(3_000, () => false);
    world.replaceVolume('a-eu-0');
    assert.ok(await world.time.run(30_000, () => world.openings.some(({ epoch }) => epoch === 2)));
    assert.notEqual(world.primary.name, 'a-eu-0');
  });
