import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CommitSession, Commits } from '#agent/member/commits.ts';
import { ordersWith } from '../orders/orders-fixture.ts';

const orders = ordersWith({
  role: 'Primary',
  epoch: 3,
  timeline: 4,
  history: [{ epoch: 3, timeline: 4, member: 'a-0', forkLsn: '0/9' }],
});

/** A Postgres whose commits come back when the test says so. */
const stand = () => {
  let now = 0;
  let waits: string | null = null;
  const asked: { text: string; values: readonly unknown[]; finish: (error?: Error) => void; cancel: () => void }[] = [];
  const connect = (_database: string, onCancelledWait: () => void): CommitSession => ({
    backendPid: 7,
    close: () => Promise.resolve(),
    query: <Row>(text: string, values?: readonly unknown[]): Promise<Row[]> => {
      if (text.includes('to_regclass')) return Promise.resolve([{ exists: true }] as Row[]);
      return new Promise((resolve, reject) => {
        const finish = (error?: Error): void => (error === undefined ? resolve([]) : reject(error));
        asked.push({ text, values: values ?? [], finish, cancel: onCancelledWait });
      });
    },
  });
  const session = { query: <Row>(): Promise<Row[]> => Promise.resolve([{ event: waits }] as Row[]) };
  const commits = new Commits({ connect, session, onChange: () => {}, log: { warn: () => {} }, now: () => now });
  const next = async () => {
    while (asked.length === 0) await sleep(5);
    const statement = asked.shift();
    assert.ok(statement !== undefined);
    return statement;
  };
  return {
    commits,
    next,
    pass: (ms: number) => {
      now += ms;
    },
    waitFor: (event: string | null) => {
      waits = event;
    },
  };
};

describe('the commits of a primary', () => {
  it('open it when the first has come back, and show that it serves for 2 s after each', async () => {
    const { commits, next, pass } = stand();
    assert.deepEqual([commits.opening, commits.epoch], ['none', 0]);
    commits.begin(orders);
    const gate = await next();
    assert.match(gate.text, /into meridian\.authority/);
    assert.deepEqual(gate.values, [3, 4, '0/9']);
    assert.deepEqual([commits.opening, commits.epoch, commits.isServing], ['waiting', 3, false]);
    gate.finish();
    await sleep(5);
    assert.deepEqual([commits.opening, commits.isServing], ['passed', true]);
    pass(1_999);
    assert.equal(commits.isServing, true);
    pass(1);
    assert.equal(commits.isServing, false);
    const beat = await next();
    assert.match(beat.text, /into meridian\.heartbeat/);
    beat.finish();
    await sleep(5);
    assert.equal(commits.isServing, true);
    commits.end();
    assert.deepEqual([commits.opening, commits.isServing], ['none', false]);
  });

  it('do not open it by one whose wait was ended by something else', async () => {
    const { commits, next } = stand();
    commits.begin(orders);
    const first = await next();
    first.cancel();
    first.finish();
    const second = await next();
    assert.equal(commits.opening, 'waiting');
    assert.match(second.text, /into meridian\.authority/);
    assert.match(commits.problem, /ended by something else/);
    second.finish();
    await sleep(5);
    assert.equal(commits.opening, 'passed');
    commits.end();
  });

  it('show that it serves while only followers keep them from being done', async () => {
    const { commits, next, waitFor } = stand();
    waitFor('WALSync');
    commits.begin(orders);
    await next();
    await sleep(300);
    assert.equal(commits.isServing, false, 'a disk that hangs is its own');
    waitFor('SyncRep');
    await sleep(300);
    assert.deepEqual([commits.opening, commits.isServing], ['waiting', true]);
    commits.end();
  });
});
