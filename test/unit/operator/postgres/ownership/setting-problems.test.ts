/** Settings that come into force by themselves: which of them weaken what tenants rest on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { weakness } from '#operator/postgres/ownership/setting-problems.ts';

test('what weakens durability, separation or ownership is told from what is only somebody’s taste', () => {
  const weak = [
    'synchronous_commit=off',
    'synchronous_commit=local',
    'synchronous_commit=remote_write',
    'Synchronous_Commit=OFF',
    'row_security=off',
    'session_replication_role=replica',
    'role=meridian_owner',
    'meridian.tenant=acme',
  ];
  for (const setting of weak) assert.ok(weakness(setting) !== undefined, setting);
  const harmless = [
    'synchronous_commit=on',
    'synchronous_commit=remote_apply',
    'row_security=on',
    'session_replication_role=origin',
    'role=none',
    'search_path=public, pg_temp',
    'work_mem=64MB',
    'idle_in_transaction_session_timeout=10min',
  ];
  for (const setting of harmless) assert.equal(weakness(setting), undefined, setting);
});
