/** What is looked up in the map by names that others choose. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adminRightOf, type ClusterMap } from '#router/map/map.ts';

test('whoever isn’t named may not administer, whatever the name is', () => {
  const map = { keyspace: { admins: { ops: 'full' } } } as unknown as ClusterMap;
  assert.equal(adminRightOf(map, 'ops'), 'full');
  for (const role of ['app', 'constructor', '__proto__', 'toString']) assert.equal(adminRightOf(map, role), undefined);
  assert.equal(adminRightOf(undefined, 'ops'), undefined);
});
