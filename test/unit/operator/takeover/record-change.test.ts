/** What a deciding swap tells people of the failover. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decidedRecord } from '#core/authority/decision.ts';
import { parseLsn } from '#core/lsn.ts';
import { type RecordChangeInput, recordChange } from '#operator/takeover/record-change.ts';
import { member, recordOf } from '../../core/authority/records.ts';
import { World } from './world.ts';

const at = new Date('2026-01-01T00:00:00Z');
const { shard } = new World();

function lossOf(k: number, heard: RecordChangeInput['heard']): object {
  const before = recordOf(['a', 'b', 'c'], k);
  const position = { epoch: 1, timeline: 1, lsn: parseLsn('0/100') };
  const record = decidedRecord(before, { epoch: 2, member: member('b'), region: 'us', position, since: '' });
  const { lostFrom, lostTo } =
    recordChange({ shard, before, record, why: 'it is silent', at, heard }).lastFailover ?? {};
  return { lostFrom, lostTo };
}

test('without acknowledgements what may be lost ends where the primary before was last heard', () => {
  const cases: readonly (readonly [RecordChangeInput['heard'], string | undefined])[] = [
    [{ timeline: 1, lsn: '0/180' }, '0/180'],
    [undefined, undefined],
    // It may have written more since: that its successor has all that was heard says nothing.
    [{ timeline: 1, lsn: '0/100' }, undefined],
    [{ timeline: 1, lsn: '0/80' }, undefined],
    // Heard before it was promoted.
    [{ timeline: 7, lsn: '0/180' }, undefined],
  ];
  for (const [heard, lostTo] of cases) assert.deepEqual(lossOf(0, heard), { lostFrom: '0/100', lostTo });
});

test('with acknowledgements nothing that was acknowledged is lost, so nothing is said to be', () => {
  assert.deepEqual(lossOf(1, { timeline: 1, lsn: '0/180' }), { lostFrom: undefined, lostTo: undefined });
});
