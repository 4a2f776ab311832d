/** How large a shard may be, and what its members' Postgres is configured for: written down in different programs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mergeParameters } from '#agent/postgres/parameters.ts';
import { maxMembers } from '#core/authority/membership-change.ts';

const { parameters } = mergeParameters({});
const followers = maxMembers - 1;

test('the largest shard has WAL senders for every follower, and for one more that copies', () => {
  assert.ok(2 * followers + 2 <= Number(parameters['max_wal_senders']), parameters['max_wal_senders']);
});

test('the largest shard has slots for every follower, and for the successor of each', () => {
  assert.ok(2 * followers <= Number(parameters['max_replication_slots']), parameters['max_replication_slots']);
});
