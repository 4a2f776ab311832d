import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CancelKeys, placeOf, routerMark } from '#router/session/cancel-keys.ts';

const place = { router: routerMark('10.0.0.7', 5432), worker: 13 };

function session(): { cancelled: number; cancel: () => void } {
  const one = {
    cancelled: 0,
    cancel: () => {
      one.cancelled += 1;
    },
  };
  return one;
}

describe('a cancel key', () => {
  test('says where its session is, and looks like a process id', () => {
    const keys = new CancelKeys(() => place);
    const ids = new Set<number>();
    for (let round = 0; round < 2_000; round++) {
      const { processId } = keys.issue(session(), 'short');
      assert.deepEqual(placeOf(processId), place);
      assert.ok(processId > 0 && processId < 2 ** 31);
      ids.add(processId);
    }
    assert.equal(ids.size, 2_000);
  });

  test('is as long as the protocol of the client allows', () => {
    const keys = new CancelKeys(() => place);
    assert.equal(keys.issue(session(), 'short').secret.length, 4);
    assert.equal(keys.issue(session(), 'long').secret.length, 32);
  });

  test('cancels its session only, with its whole secret only, and until its end only', () => {
    const keys = new CancelKeys(() => place);
    const [mine, other] = [session(), session()];
    const key = keys.issue(mine, 'long');
    keys.issue(other, 'long');
    const wrong = [key.secret.subarray(0, 4), Buffer.alloc(32), Buffer.concat([key.secret, Buffer.from([0])])];
    for (const secret of wrong) assert.ok(!keys.cancel({ ...key, secret }));
    assert.ok(keys.cancel(key));
    assert.deepEqual([mine.cancelled, other.cancelled], [1, 0]);
    keys.revoke(key);
    assert.ok(!keys.cancel(key));
    assert.equal(mine.cancelled, 1);
  });
});

test('routers of one Service mostly have marks of their own', () => {
  const marks = new Set(Array.from({ length: 20 }, (_, index) => routerMark(`10.244.1.${index + 2}`, 5432)));
  assert.ok(marks.size >= 18, `${marks.size} of 20`);
  for (const mark of marks) assert.ok(mark >= 0 && mark < 1024);
});
