/** How far a primary was heard: of this very one, while it leads, and asked no oftener than need be. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StatusAnswer } from '#operator/agents/client.ts';
import { LastHeard } from '#operator/takeover/last-heard.ts';
import { member, recordOf } from '../../core/authority/records.ts';

const record = recordOf(['a', 'b'], 0);
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const says = (lsn: string, more: { of?: object; inRecovery?: boolean } = {}): StatusAnswer => {
  const postgres = {
    inRecovery: more.inRecovery ?? false,
    timeline: 1,
    lsn: { written: lsn, flushed: lsn, replayed: lsn },
  };
  return { kind: 'status', status: { member: more.of ?? member('a'), postgres } } as unknown as StatusAnswer;
};

test('the last word of the primary stays, whatever others say under its name, and when it is silent', async () => {
  let nowMs = 0;
  let asked = 0;
  const heard = new LastHeard(() => nowMs);
  const look = async (answer: StatusAnswer, afterMs = 1_000): Promise<void> => {
    nowMs += afterMs;
    heard.look('uid', record, async () => {
      asked += 1;
      return answer;
    });
    await settled();
  };
  await look(says('0/100'));
  await look(says('0/200'), 200);
  assert.equal(asked, 1, 'that was too soon');
  assert.deepEqual(heard.of('uid', member('a')), { timeline: 1, lsn: '0/100' });
  await look(says('0/300'));
  await look({ kind: 'silent', why: '' });
  await look(says('0/400', { of: { name: 'a', incarnation: 'another volume' } }));
  await look(says('0/500', { inRecovery: true }));
  assert.equal(asked, 5);
  assert.deepEqual(heard.of('uid', member('a')), { timeline: 1, lsn: '0/300' });
  assert.equal(heard.of('uid', member('b')), undefined);
  heard.keepOnly(new Set());
  assert.equal(heard.of('uid', member('a')), undefined);
});
