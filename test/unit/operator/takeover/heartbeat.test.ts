/** Replicas that hear of one another through Leases: who comes first, who is gone, and who reaches what. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { KubeApi } from '#kube/client.ts';
import { leases } from '#kube/kinds.ts';
import { Heartbeats } from '#operator/takeover/heartbeat.ts';
import { until } from '../../kube/conformance.ts';
import { FakeApiServer } from '../../kube/fake/server.ts';

interface Running {
  readonly heartbeats: Heartbeats;
  readonly stop: () => Promise<void>;
  reaches: string[];
}

describe('heartbeats of operators', () => {
  let server: FakeApiServer;
  let leader: string | undefined;
  let nowMs = 0;
  const running: Running[] = [];

  beforeEach(async () => {
    server = new FakeApiServer();
    await server.start();
    leader = undefined;
    nowMs = 1_000;
  });
  afterEach(async () => {
    for (const { stop } of running.splice(0)) await stop();
    await server.stop();
  });

  const start = (name: string, installation = 'meridian-operator'): Running => {
    const api = new KubeApi(server.configuration);
    const end = new AbortController();
    const one: Running = {
      reaches: [],
      heartbeats: new Heartbeats({
        api,
        namespace: 'meridian',
        installation,
        pod: { name, uid: `uid-${name}` },
        leader: () => leader,
        reaches: () => one.reaches,
        nowMs: () => nowMs,
      }),
      stop: async () => {
        end.abort();
        await run;
        await api.close();
      },
    };
    const run = one.heartbeats.run(end.signal);
    running.push(one);
    return one;
  };
  const beat = async (...ones: readonly Running[]): Promise<void> => {
    const before = server.requests.length;
    for (const { heartbeats } of ones) heartbeats.beatSoon();
    await until(
      () => server.requests.slice(before).filter((request) => request.startsWith('GET')).length >= ones.length,
    );
    // Their answers have to arrive, too.
    await new Promise((resolve) => setTimeout(resolve, 300));
  };

  it('rank the leader first, then by name', async () => {
    const [a, b, c] = [start('op-a'), start('op-b'), start('op-c')];
    await beat(a, b, c);
    await beat(a, b, c);
    assert.deepEqual(
      [a, b, c].map(({ heartbeats }) => heartbeats.rank),
      [0, 1, 2],
    );
    leader = 'op-c';
    assert.deepEqual(
      [a, b, c].map(({ heartbeats }) => heartbeats.rank),
      [1, 2, 0],
    );
  });

  it('leave those out that were not seen to change for a while, by the own clock', async () => {
    const [a, b] = [start('op-a'), start('op-b')];
    leader = 'op-a';
    await beat(a, b);
    await beat(a, b);
    assert.equal(b.heartbeats.rank, 1);
    assert.deepEqual([a.heartbeats.isLedByAnother, b.heartbeats.isLedByAnother], [false, true]);
    // As if killed: nothing is said any more, and nothing is given up.
    const api = new KubeApi(server.configuration);
    const last = await api.of(leases).get({ namespace: 'meridian', name: 'op-a' });
    await a.stop();
    running.splice(running.indexOf(a), 1);
    const { resourceVersion } = (await api.of(leases).get({ namespace: 'meridian', name: 'op-a' })).metadata;
    await api.of(leases).update({ ...last, metadata: { ...last.metadata, resourceVersion } });
    await api.close();
    await beat(b);
    nowMs += 5_000;
    await beat(b);
    assert.equal(b.heartbeats.rank, 1, 'it may only be slow');
    nowMs += 2_000;
    await beat(b);
    assert.equal(b.heartbeats.rank, 0, 'the leader is gone');
    assert.equal(b.heartbeats.isLedByAnother, false);
  });

  it('leave those out at once that were told to end', async () => {
    const [a, b, c] = [start('op-a'), start('op-b'), start('op-c')];
    leader = 'op-a';
    await beat(a, b, c);
    await beat(a, b, c);
    assert.equal(c.heartbeats.rank, 2);
    await a.stop();
    running.splice(running.indexOf(a), 1);
    await beat(b, c);
    assert.deepEqual(
      [b, c].map(({ heartbeats }) => [heartbeats.rank, heartbeats.isLedByAnother]),
      [
        [0, false],
        [1, false],
      ],
    );
  });

  it('say which shards in trouble a replica reaches', async () => {
    const [a, b] = [start('op-a'), start('op-b')];
    b.reaches = ['shop/shop-a'];
    await beat(a, b);
    await beat(a, b);
    assert.deepEqual(a.heartbeats.othersReaching('shop/shop-a'), ['op-b']);
    assert.deepEqual(a.heartbeats.othersReaching('shop/shop-b'), []);
    nowMs += 7_000;
    assert.deepEqual(a.heartbeats.othersReaching('shop/shop-a'), [], 'that was long ago');
  });

  it('belong to their pod, and to one installation', async () => {
    const [a, other] = [start('op-a'), start('op-z', 'another-operator')];
    await beat(a, other);
    await beat(a, other);
    const api = new KubeApi(server.configuration);
    const lease = await api.of(leases).get({ namespace: 'meridian', name: 'op-a' });
    assert.deepEqual(lease.metadata.ownerReferences, [
      { apiVersion: 'v1', kind: 'Pod', name: 'op-a', uid: 'uid-op-a' },
    ]);
    assert.deepEqual([a.heartbeats.rank, other.heartbeats.rank], [0, 0]);
    await api.close();
  });

  it('go on after the API server was away', async () => {
    const a = start('op-a');
    await beat(a);
    await server.stop();
    a.heartbeats.beatSoon();
    await new Promise((resolve) => setTimeout(resolve, 100));
    await server.start();
    await beat(a);
    await beat(a);
    assert.equal(a.heartbeats.rank, 0);
  });
});
