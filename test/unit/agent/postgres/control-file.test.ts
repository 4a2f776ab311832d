import assert from 'node:assert/strict';
import { it } from 'node:test';
import { readControlFile, timelineOfControl } from '#agent/postgres/control-file.ts';
import { formatLsn } from '#core/lsn.ts';

/** Of pg_controldata 17 on a standby, shortened. */
const shown = `pg_control version number:            1700
Database system identifier:           7711310465680404503
Database cluster state:               shut down in recovery
pg_control last modified:             Mon Nov 23 10:51:11 2026
Latest checkpoint location:           0/30215D0
Latest checkpoint's REDO location:    0/3021578
Latest checkpoint's REDO WAL file:    000000010000000000000003
Latest checkpoint's TimeLineID:       1
Latest checkpoint's PrevTimeLineID:   1
Minimum recovery ending location:     0/3021810
Min recovery ending loc's timeline:   2
max_connections setting:              100
max_prepared_xacts setting:           7
max_locks_per_xact setting:           64
Bytes per WAL segment:                16777216
`;

it('a control file says where recovery begins, how far it has to come, and on which timeline', () => {
  const control = readControlFile(shown);
  assert.equal(control.systemIdentifier, '7711310465680404503');
  assert.equal(control.state, 'shut down in recovery');
  assert.deepEqual([control.checkpoint, control.redo, control.minRecovery].map(formatLsn), [
    '0/30215D0',
    '0/3021578',
    '0/3021810',
  ]);
  assert.equal(control.segmentBytes, 16_777_216n);
  assert.deepEqual(control.limits, {
    max_connections: 100,
    max_prepared_transactions: 7,
    max_locks_per_transaction: 64,
  });
  assert.equal(timelineOfControl(control), 2);
});

it('a control file that does not say what is relied on is an error, not a guess', () => {
  for (const line of shown.split('\n').filter((text) => /state|REDO location|Minimum|segment/.test(text))) {
    assert.throws(() => readControlFile(shown.replace(line, '')), /pg_controldata shows no/, line);
  }
});
