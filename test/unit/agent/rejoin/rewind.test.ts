/** What pg_rewind says when its source went in the midst of it, as seen where authority moved under it. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { isSourceLost } from '#agent/rejoin/rewind.ts';

it('a source that went away says nothing against the data; what pg_rewind finds in the data does', () => {
  for (const stderr of [
    'pg_rewind: error: unexpected result while fetching remote files: server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally',
    'pg_rewind: error: error running query (SELECT pg_current_wal_insert_lsn()) on source server: FATAL:  terminating connection due to administrator command',
    'pg_rewind: error: could not send query: no connection to the server',
  ])
    assert.equal(isSourceLost({ stderr }), true, stderr);
  for (const stderr of [
    "pg_rewind: error: could not find common ancestor of the source and target cluster's timelines",
    'pg_rewind: error: could not open file "base/1/2619": Permission denied',
    'pg_rewind: fatal: could not write file "base/1/2619": No space left on device',
    '',
  ])
    assert.equal(isSourceLost({ stderr }), false, stderr);
});
