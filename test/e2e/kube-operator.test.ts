/**
 * The operator as the chart installs it, on a real cluster: it leads, hands over, is frozen, is killed, and there is one leader
 * at any time. A release in a namespace of its own, so that it serves nobody else's objects.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cluster, ensureCluster } from '#cluster/cluster.ts';
import { KubeApi } from '#kube/client.ts';
import { leases, pods } from '#kube/kinds.ts';
import { kubeconfigConfiguration } from '#kube/kubeconfig.ts';
import { buildImages } from '../../images/build.ts';
import { installing } from './example.ts';

const root = join(import.meta.dirname, '..', '..');
const release = 'handover';
const leaseName = `${release}-operator`;
/** As operators have it. */
const leaseMs = 15_000;

describe('operator, installed by its chart', () => {
  const namespace = `kube-operator-${randomBytes(3).toString('hex')}`;
  let cluster: Cluster;
  let api: KubeApi;

  before(async () => {
    cluster = await ensureCluster();
    const { programs } = await buildImages({ only: 'programs' });
    await cluster.loadImages([programs]);
    api = new KubeApi(await kubeconfigConfiguration(cluster.kubeconfigPath));
    // The kinds belong to the whole cluster: taken as they are where they are there.
    await installing(() =>
      cluster
        .kubectl(['get', 'crd', 'shards.meridian.db'])
        .catch(() => cluster.kubectl(['apply', '--server-side', '--force-conflicts', '-f', join(root, 'crds')])),
    );
    const values = { namespaced: true, 'crds.install': false, 'images.programs': programs };
    const set = Object.entries(values).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
    const where = ['--namespace', namespace, '--create-namespace', '--wait', '--timeout', '300s'];
    await cluster.helm(['install', release, join(root, 'charts', 'meridian'), ...where, ...set]);
  });
  after(async () => {
    await api.close();
    await cluster.helm(['uninstall', release, '--namespace', namespace, '--wait']);
    await cluster.kubectl(['delete', 'namespace', namespace, '--wait=false']);
  });

  interface Seen {
    readonly holder: string;
    readonly pod: string;
    readonly term: number;
    /** As the holder wrote it; all operators have the same clock, that of this machine. */
    readonly acquiredAtMs: number;
  }
  /** By holder, as far as it was seen here. */
  const lastRenewals = new Map<string, number>();
  const lease = async (): Promise<Seen> => {
    const { spec } = await api.of(leases).get({ namespace, name: leaseName });
    const holder = spec?.holderIdentity ?? '';
    lastRenewals.set(holder, Date.parse(spec?.renewTime ?? ''));
    return {
      holder,
      pod: holder.split('_')[0] ?? '',
      term: spec?.leaseTransitions ?? 0,
      acquiredAtMs: Date.parse(spec?.acquireTime ?? ''),
    };
  };
  const leader = async (
    isWanted: (now: Seen) => boolean,
    timeoutMs = 120_000,
  ): Promise<Seen & { readonly afterMs: number }> => {
    const startedAtMs = performance.now();
    for (;;) {
      const now = await lease().catch(() => undefined);
      const afterMs = Math.round(performance.now() - startedAtMs);
      if (now !== undefined && now.holder !== '' && isWanted(now)) return { ...now, afterMs };
      if (afterMs > timeoutMs)
        throw new Error(`no such leader after ${timeoutMs} ms; the lease says ${JSON.stringify(now)}`);
      await sleep(50);
    }
  };
  /** From the last renewal of one to the acquisition of the next. */
  const gapMs = (former: Seen, next: Seen): number =>
    next.acquiredAtMs - (lastRenewals.get(former.holder) ?? Number.NaN);
  const operators = async (): Promise<
    readonly { readonly name: string; readonly node: string; readonly restarts: number }[]
  > => {
    const { items } = await api.of(pods).list({ namespace, labelSelector: 'app.kubernetes.io/component=operator' });
    return items
      .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
      .map(({ metadata, spec, status }) => ({
        name: metadata.name,
        node: spec?.nodeName ?? '',
        restarts: status?.containerStatuses?.[0]?.restartCount ?? 0,
      }));
  };
  const ready = async (): Promise<void> => {
    await cluster.kubectl(['-n', namespace, 'rollout', 'status', `deployment/${leaseName}`, '--timeout=300s']);
  };

  it('runs an operator in each of three regions, of which one leads', async () => {
    const now = await leader(() => true);
    const found = await operators();
    assert.equal(found.length, 3);
    assert.equal(new Set(found.map(({ node }) => node)).size, 3, 'two on one node');
    assert.ok(found.some(({ name }) => name === now.pod));
  });

  it('passes helm test', async () => {
    assert.match(
      await cluster.helm(['test', release, '--namespace', namespace, '--timeout', '300s']),
      /Phase:\s+Succeeded/,
    );
  });

  it('hands over at once when its leader is asked to end', async (context) => {
    const before = await leader(() => true);
    await cluster.kubectl(['-n', namespace, 'delete', 'pod', before.pod, '--wait=false']);
    const next = await leader(({ pod }) => pod !== before.pod);
    const gap = gapMs(before, next);
    context.diagnostic(`handed over after ${next.afterMs} ms, ${gap} ms after its last renewal`);
    assert.ok(next.term > before.term);
    assert.ok(gap < leaseMs - 1_000, `${gap} ms after the last renewal: the lease was not given up`);
    await ready();
  });

  it('is replaced when it is killed: by its own restart, or by another', async (context) => {
    const before = await leader(() => true);
    await cluster.faults.signal({ pod: `${namespace}/${before.pod}` }, 'KILL');
    const next = await leader(({ term }) => term > before.term);
    context.diagnostic(`${next.pod === before.pod ? 'its own restart' : 'another'} leads after ${next.afterMs} ms`);
    await ready();
  });

  it('is replaced when it is frozen, and on waking learns that it no longer leads', async (context) => {
    const before = await leader(() => true);
    await cluster.faults.signal({ pod: `${namespace}/${before.pod}` }, 'STOP');
    const next = await leader(({ pod }) => pod !== before.pod);
    const gap = gapMs(before, next);
    context.diagnostic(`another leads after ${next.afterMs} ms, ${gap} ms after the last renewal`);
    assert.ok(next.term > before.term);
    assert.ok(gap > leaseMs - 1_000, `${gap} ms after its last renewal the frozen one might still have acted`);
    await cluster.faults.signal({ pod: `${namespace}/${before.pod}` }, 'CONT');
    for (const giveUpAt = performance.now() + 60_000; ; await sleep(500)) {
      const log = await cluster.kubectl(['-n', namespace, 'logs', before.pod]);
      if (/not leading any more/.test(log)) break;
      assert.ok(performance.now() < giveUpAt, `it has not noticed:\n${log}`);
    }
    await sleep(5_000);
    // On a machine that stalls the lease may have gone on to somebody: in a term of its own.
    const now = await lease();
    assert.ok(now.term >= next.term);
    if (now.term === next.term) assert.equal(now.pod, next.pod);
  });
});
