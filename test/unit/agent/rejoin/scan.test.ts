/** Lines as pg_waldump 17 prints them. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { CommitCounter } from '#agent/rejoin/scan.ts';
import { parseLsn } from '#core/lsn.ts';

const line = (transaction: number, lsn: string, description: string): string =>
  `rmgr: Transaction len (rec/tot):     46/    46, tx: ${String(transaction).padStart(10)}, lsn: ${lsn}, prev 0/03000028, desc: ${description}`;
const message = (transaction: number, lsn: string, prefix: string): string =>
  line(transaction, lsn, `MESSAGE transactional, prefix "${prefix}"; payload (0 bytes): `).replace(
    'Transaction  ',
    'LogicalMessage',
  );

const counted = (...lines: string[]): number => {
  const counter = new CommitCounter(parseLsn('0/3000000'), parseLsn('0/4000000'));
  for (const text of lines) counter.look(text);
  return counter.commits;
};

it('commits with an id count, aborts and commits without one do not', () => {
  assert.equal(
    counted(
      line(739, '0/03000068', 'COMMIT 2026-11-23 10:22:59.841246 UTC'),
      line(740, '0/03000098', 'ABORT 2026-11-23 10:22:59.841246 UTC'),
      line(0, '0/030000C8', 'COMMIT 2026-11-23 10:22:59.841246 UTC; inval msgs: catcache 51'),
      line(0, '0/030000F8', 'COMMIT_PREPARED 741: 2026-11-23 10:22:59.841246 UTC'),
      line(742, '0/03000128', 'INVALIDATION ; inval msgs: catcache 51'),
      line(743, '0/03000128', 'PREPARE gid: 2026'),
    ),
    2,
  );
});

it('only what begins past the fork and before the end counts', () => {
  const commit = 'COMMIT 2026-11-23 10:22:59.841246 UTC';
  assert.equal(counted(line(1, '0/02FFFFC8', commit), line(2, '0/03000000', commit), line(3, '0/04000000', commit)), 1);
});

it("the agent's own commits do not count, and a client's with a message of its own does", () => {
  const commit = 'COMMIT 2026-11-23 10:22:59.841246 UTC';
  assert.equal(
    counted(
      message(10, '0/03000028', 'meridian'),
      message(11, '0/03000058', 'meridian '),
      line(11, '0/03000088', commit),
      line(10, '0/030000B8', commit),
      // The number comes again only after four thousand million others.
      line(10, '0/030000E8', commit),
    ),
    2,
  );
});
