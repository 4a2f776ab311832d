/** Whose volumes go with a shard. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PersistentVolumeClaim } from '#kube/kinds.ts';
import type { Shard } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { ownClaims } from '#operator/controllers/shard/claims.ts';

const made = (name: string, creationTimestamp: string, rest: object = {}) => ({
  metadata: { namespace: 'prod', name, uid: `uid-${name}`, resourceVersion: '1', creationTimestamp, ...rest },
});
const shard = made('a', '2026-01-02T00:00:00Z') as Stored<Shard>;
const own = (...claims: ReturnType<typeof made>[]): string[] =>
  ownClaims(shard, claims as Stored<PersistentVolumeClaim>[]).map(({ name }) => name);

test('a volume that an earlier shard of the same name left is not among those that go', () => {
  assert.deepEqual(own(made('kept', '2026-01-01T23:59:59Z'), made('new', '2026-01-02T00:00:05Z')), ['new']);
});

test('a volume made within the same second as its shard goes with it', () => {
  assert.deepEqual(own(made('new', '2026-01-02T00:00:00Z')), ['new']);
});

test('one that goes already is left alone, and one whose time nobody knows is kept', () => {
  const going = made('going', '2026-01-03T00:00:00Z', { deletionTimestamp: '2026-01-04T00:00:00Z' });
  assert.deepEqual(own(going, made('odd', '')), []);
});
