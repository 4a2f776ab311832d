/** What is read out of other programs' words: progress, lag, the status made of them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type StatusFacts, statusOf } from '#agent/member/status.ts';
import { parseProgress } from '#agent/postgres/clone.ts';
import { neverSeen } from '#agent/postgres/observations.ts';
import { type PostgresSeen, receiverOf } from '#agent/postgres/observe.ts';
import { agentStatusSchema } from '#core/protocol/status.ts';
import { ordersWith, other, promiseWith, self } from '../orders/orders-fixture.ts';

it('the progress of a copy is the last that was said', () => {
  assert.equal(parseProgress('waiting for checkpoint'), undefined);
  assert.deepEqual(parseProgress('    0/31245 kB (0%), 0/1 tablespace\r23119/31245 kB (73%), 0/1 tablespace\r'), {
    receivedBytes: 23119 * 1024,
    totalBytes: 31245 * 1024,
  });
});

it('a receiver lags by what it has yet to replay, never by less than nothing', () => {
  assert.equal(receiverOf(null, null, '0/0'), undefined);
  assert.deepEqual(receiverOf('streaming', '0/3000100', '0/3000000'), { isStreaming: true, lagBytes: 256 });
  assert.deepEqual(receiverOf('streaming', '0/2000000', '0/3000000'), { isStreaming: true, lagBytes: 0 });
  assert.deepEqual(receiverOf('starting', null, '0/3000000'), { isStreaming: false, lagBytes: 0 });
});

const seen: PostgresSeen = {
  inRecovery: true,
  version: '17.6',
  timeline: 1,
  written: '0/3000000',
  flushed: '0/3000000',
  replayed: '0/3000000',
  replayAgeMs: 5,
  pendingRestart: false,
  receiver: { isStreaming: true, lagBytes: 10 },
  standbys: [],
  slots: [],
};
const facts: StatusFacts = {
  member: self,
  region: 'eu',
  phase: 'Following',
  problem: '',
  hasData: true,
  promise: promiseWith({ epoch: 2, shardUid: 'uid', grantee: 'b-0/x', systemIdentifier: '7' }),
  orders: ordersWith({ epoch: 2 }),
  appliedAt: 1,
  server: {
    state: 'running',
    as: 'standby',
    isReady: true,
    isOpen: true,
    configuration: 'c',
    restartNonce: 'n',
    timeline: 0,
  },
  observation: { begunAt: 2, seen },
  isWalRemoved: false,
  clone: undefined,
  diverged: undefined,
  rejoined: undefined,
  certificateNotAfter: new Date('2027-01-01T00:00:00Z'),
};

describe('the status', () => {
  it('is what the protocol says it is', () => {
    const status = statusOf(facts);
    assert.deepEqual(agentStatusSchema.parse(status), status);
    assert.deepEqual(status.upstream, { member: 'b-0', streaming: true, lagBytes: 10, caughtUp: true });
    assert.equal(status.postgres?.open, true);
    assert.equal(status.orders?.applied, true);
  });
  it('of a new member has neither promise nor orders nor Postgres', () => {
    const status = statusOf({
      ...facts,
      phase: 'Waiting',
      hasData: false,
      promise: promiseWith({}),
      orders: undefined,
      server: { state: 'stopped' },
      observation: neverSeen,
    });
    assert.deepEqual(agentStatusSchema.parse(status), status);
    assert.deepEqual([status.promise, status.orders, status.postgres, status.upstream], Array(4).fill(undefined));
  });
  it('says caught up only of a follower that streams and is near', () => {
    const upstream = (receiver: PostgresSeen['receiver']) =>
      statusOf({ ...facts, observation: { begunAt: 2, seen: { ...seen, receiver } } }).upstream;
    assert.equal(upstream({ isStreaming: true, lagBytes: 17 * 1024 * 1024 })?.caughtUp, false);
    assert.equal(upstream({ isStreaming: false, lagBytes: 0 })?.caughtUp, false);
    assert.equal(upstream(undefined)?.caughtUp, false);
  });
  it('of a primary lists members that stream, and not base copies', () => {
    const standby = { state: 'streaming', flushed: '0/1', replayed: '0/1', lagBytes: 0, sync: 'quorum' };
    const names = [`b-0/${other.incarnation}`, `basebackup of b-0/${other.incarnation}`, 'psql', 'a/b'];
    const standbys = names.map((applicationName) => ({ ...standby, applicationName }));
    const status = statusOf({ ...facts, observation: { begunAt: 2, seen: { ...seen, inRecovery: false, standbys } } });
    assert.deepEqual(
      status.standbys.map(({ name, incarnation }) => ({ name, incarnation })),
      [other],
    );
  });
});
