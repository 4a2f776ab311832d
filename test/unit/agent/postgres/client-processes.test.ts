import assert from 'node:assert/strict';
import { it } from 'node:test';
import pg from 'pg';
import { childrenOf, parentOf } from '#agent/postgres/client-processes.ts';
import { isRefusedByAccessFile } from '#agent/postgres/probe.ts';

it('a process’ parent is found whatever the process calls itself, and one that has ended has none', () => {
  assert.equal(parentOf('12 (postgres) S 7 12 12 0'), 7);
  assert.equal(parentOf('12 (a) Z) (b) S 9 12 12 0'), 9);
  assert.equal(parentOf('12 (postgres) Z 7 12 12 0'), undefined);
  assert.equal(parentOf(''), undefined);
});

it('this process is among the children of its parent', async () => {
  assert.ok((await childrenOf(process.ppid)).includes(process.pid));
});

it('only a missing entry in the access file shows that the door is shut', () => {
  const refused = (code: string, message: string): pg.DatabaseError =>
    Object.assign(new pg.DatabaseError(message, 0, 'error'), { code });
  assert.equal(isRefusedByAccessFile(refused('28000', 'pg_hba.conf rejects connection for host "127.0.0.1"')), true);
  assert.equal(isRefusedByAccessFile(refused('28000', 'connection requires a valid client certificate')), false);
  assert.equal(isRefusedByAccessFile(refused('57P03', 'the database system is starting up')), false);
  assert.equal(isRefusedByAccessFile(new Error('ECONNREFUSED')), false);
});
