/** Leader election when things go wrong: a leader that vanishes, loses the API server, or restarts; a Lease that is deleted. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubeApi } from '#kube/client.ts';
import { leases } from '#kube/kinds.ts';
import { LeaderElection, type Leadership } from '#kube/lease.ts';
import { aborted, until } from './conformance.ts';
import { FakeApiServer } from './fake/server.ts';

interface Candidate {
  readonly stop: AbortController;
  readonly run: Promise<void>;
  readonly terms: Leadership[];
  lost: number;
  readonly api: KubeApi;
}

describe('leader election', () => {
  let server: FakeApiServer;
  const candidates: Candidate[] = [];

  beforeEach(async () => {
    server = new FakeApiServer();
    await server.start();
  });
  afterEach(async () => {
    for (const candidate of candidates.splice(0)) {
      candidate.stop.abort();
      await candidate.run;
      await candidate.api.close();
    }
    await server.stop();
  });

  const start = (instance: string): Candidate => {
    // A pool of its own each, so that one of them can be cut off.
    const api = new KubeApi(server.configuration);
    const election = new LeaderElection({
      api,
      namespace: 'a',
      name: 'operator',
      instance,
      // Long enough for a machine that stalls to renew in time.
      leaseMs: 3_000,
      renewDeadlineMs: 2_000,
      retryMs: 100,
    });
    const stop = new AbortController();
    const candidate: Candidate = { stop, api, terms: [], lost: 0, run: Promise.resolve() };
    const run = election.run(stop.signal, async (leadership) => {
      candidate.terms.push(leadership);
      await aborted(leadership.signal);
      candidate.lost += 1;
    });
    const started = Object.assign(candidate, { run });
    candidates.push(started);
    return started;
  };
  const lease = (): Promise<{ spec?: { holderIdentity?: string; leaseTransitions?: number } }> =>
    new KubeApi(server.configuration).of(leases).get({ namespace: 'a', name: 'operator' });

  it('another takes over when the leader vanishes, after the lease has run out and not before', async () => {
    const one = start('one');
    await until(() => one.terms.length === 1);
    const two = start('two');
    await sleep(250);
    // Vanishes: its connections are gone and it can't make new ones.
    await one.api.close();
    const vanishedAtMs = performance.now();
    await until(() => two.terms.length === 1);
    const tookMs = performance.now() - vanishedAtMs;
    // Its last renewal is no older than the deadline, else it had lost the lease before.
    assert.ok(tookMs >= 900, `after ${tookMs} ms`);
    assert.ok(one.terms[0]?.isHeld() === false, 'the old leader still believes to lead');
    assert.ok(one.lost === 1, 'the old leader was not told');
    assert.ok((two.terms[0]?.term ?? 0) > (one.terms[0]?.term ?? Infinity));
  });

  it('a leader that cannot renew stops before anybody may take over', async () => {
    const one = start('one');
    await until(() => one.terms.length === 1);
    await server.stop();
    const cutAtMs = performance.now();
    await until(() => one.lost === 1);
    const tookMs = performance.now() - cutAtMs;
    assert.ok(tookMs < 3_000, `stopped after ${tookMs} ms, the lease is 3000 ms`);
    await server.start();
    await until(() => one.terms.length === 2);
    assert.ok((one.terms[1]?.term ?? 0) > (one.terms[0]?.term ?? Infinity), 'leading again is a new term');
  });

  it('a short outage costs no leadership', async () => {
    const one = start('one');
    await until(() => one.terms.length === 1);
    server.resetNext(2);
    await sleep(500);
    assert.equal(one.lost, 0);
    assert.equal(one.terms[0]?.isHeld(), true);
  });

  it('a restarted container of the same pod takes its own lease at once, as a new term', async () => {
    const before = start('pod-a');
    await until(() => before.terms.length === 1);
    await before.api.close();
    const restartedAtMs = performance.now();
    const again = start('pod-a');
    await until(() => again.terms.length === 1);
    assert.ok(performance.now() - restartedAtMs < 2_500, 'the lease had to run out');
    assert.equal(again.terms[0]?.term, (before.terms[0]?.term ?? 0) + 1);
  });

  it('a pod whose name merely begins alike is another', async () => {
    const one = start('pod-ab');
    await until(() => one.terms.length === 1);
    const other = start('pod-a');
    await sleep(300);
    assert.equal(other.terms.length, 0);
  });

  it('terms grow even over a Lease that was deleted', async () => {
    const one = start('one');
    await until(() => one.terms.length === 1);
    one.stop.abort();
    await one.run;
    await sleep(1_100);
    server.storage.delete('coordination.k8s.io/v1/leases', 'a/operator');
    const two = start('two');
    await until(() => two.terms.length === 1);
    assert.ok((two.terms[0]?.term ?? 0) > (one.terms[0]?.term ?? Infinity));
    assert.ok((two.terms[0]?.term ?? Infinity) < 2 ** 31);
  });

  it('a renewal whose answer was lost does not cost the leadership', async () => {
    const one = start('one');
    await until(() => one.terms.length === 1);
    // The write is done, its answer never comes: the next renewal meets its own write as a conflict.
    const { spec } = (await lease()) as { spec: Record<string, unknown> };
    const current = server.storage.get('coordination.k8s.io/v1/leases', 'a/operator');
    server.storage.replace(
      'coordination.k8s.io/v1/leases',
      'a/operator',
      { ...current, spec: { ...spec, renewTime: new Date().toISOString() } },
      'object',
    );
    await sleep(2_500);
    assert.equal(one.lost, 0);
    assert.equal(one.terms.length, 1);
  });

  it('a leader that resigns hands over at once, and stands aside for a while', async () => {
    const one = start('one');
    await until(() => one.terms.length === 1);
    const two = start('two');
    await sleep(250);
    const resignedAtMs = performance.now();
    one.terms[0]?.resign(1_000);
    assert.equal(one.terms[0]?.isHeld(), false, 'it goes on acting');
    await until(() => two.terms.length === 1);
    assert.ok(performance.now() - resignedAtMs < 2_500, 'the lease had to run out');
    two.stop.abort();
    await two.run;
    await until(() => one.terms.length === 2);
    assert.ok(performance.now() - resignedAtMs >= 1_000, 'it stood again too soon');
  });

  it('a leader whose Lease was taken from it stops at its next renewal', async () => {
    const one = start('one');
    await until(() => one.terms.length === 1);
    const current = server.storage.get('coordination.k8s.io/v1/leases', 'a/operator');
    server.storage.replace(
      'coordination.k8s.io/v1/leases',
      'a/operator',
      { ...current, spec: { ...(current['spec'] as object), holderIdentity: 'thief_1' } },
      'object',
    );
    await until(() => one.lost === 1);
    assert.equal(one.terms[0]?.isHeld(), false);
  });
});
