/** The Kubernetes client against a real API server over a connection that keeps breaking. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { type Cluster, ensureCluster } from '#cluster/cluster.ts';
import { KubeApi } from '#kube/client.ts';
import type { Configuration } from '#kube/configuration.ts';
import { type ConfigMap, configMaps } from '#kube/kinds.ts';
import { kubeconfigConfiguration } from '#kube/kubeconfig.ts';
import { LeaderElection } from '#kube/lease.ts';
import { Reflector } from '#kube/reflector.ts';
import { aborted, until } from '#test/unit/kube/conformance.ts';
import { TcpProxy } from './tcp-proxy.ts';

describe('kube over a broken connection', () => {
  const namespace = `kube-faults-${randomBytes(3).toString('hex')}`;
  let cluster: Cluster;
  let direct: KubeApi;
  let proxied: KubeApi;
  let proxy: TcpProxy;

  before(async () => {
    cluster = await ensureCluster();
    await cluster.kubectl(['create', 'namespace', namespace]);
    const configuration = await kubeconfigConfiguration(cluster.kubeconfigPath);
    direct = new KubeApi(configuration);
    const server = new URL(configuration.server);
    proxy = new TcpProxy({ host: server.hostname, port: Number(server.port) });
    const port = await proxy.listen();
    const through: Configuration = {
      ...configuration,
      server: `https://127.0.0.1:${port}`,
      credentials: async (refresh) => ({ ...(await configuration.credentials(refresh)), serverName: 'kubernetes' }),
    };
    proxied = new KubeApi(through);
  });
  after(async () => {
    await proxied.close();
    await direct.close();
    await proxy.close();
    await cluster.kubectl(['delete', 'namespace', namespace, '--wait=false']);
  });

  it('a reflector ends up with exactly what is there, whatever broke on the way', async (context) => {
    const stop = new AbortController();
    let troubles = 0;
    const reflector = new Reflector<ConfigMap>({
      api: proxied,
      type: configMaps,
      namespace,
      labelSelector: 'test=faults',
      idleDeadlineMs: 1_500,
      watchSeconds: 3,
      pageSize: 5,
      backoff: { baseMs: 50, maxMs: 500 },
      onTrouble: () => {
        troubles += 1;
      },
    });
    const running = reflector.run(stop.signal);
    const present = new Map<string, string>();
    /** Again until it has met a list or a watch: the reflector may just be pausing between two attempts. */
    const reset = async (): Promise<void> => {
      const before = troubles;
      await until(() => {
        if (troubles === before) proxy.resetAll();
        return troubles > before;
      });
    };
    const faults = [
      reset,
      async () => {
        proxy.isSilent = true;
        setTimeout(() => (proxy.isSilent = false), 700);
      },
      async () => {
        proxy.isRefusing = true;
        await reset();
        setTimeout(() => (proxy.isRefusing = false), 400);
      },
    ];
    for (let n = 0; n < 120; n += 1) {
      const name = `map-${n % 17}`;
      const value = `${n}`;
      if (n % 5 === 4 && present.has(name)) {
        await direct.of(configMaps).delete({ namespace, name });
        present.delete(name);
      } else {
        await direct
          .of(configMaps)
          .apply({ metadata: { namespace, name, labels: { test: 'faults' } }, data: { value } });
        present.set(name, value);
      }
      if (n % 10 === 3) await faults[((n / 10) | 0) % faults.length]?.();
      await sleep(50);
    }
    const held = (): Map<string, string | undefined> =>
      new Map(reflector.store.list().map((map) => [map.metadata.name, map.data?.['value']]));
    await until(() => isDeepStrictEqual(held(), present), 60_000);
    stop.abort();
    await running;
    context.diagnostic(`${troubles} lists or watches broke`);
    assert.ok(troubles >= 8, `only ${troubles} troubles: nothing was tested`);
  });

  it('a leader that is cut off stops before the other takes over', async (context) => {
    const acting: { who: string; fromMs: number; toMs: number }[] = [];
    const start = (who: string, api: KubeApi): { stop: AbortController; run: Promise<void> } => {
      const stop = new AbortController();
      const timing = { leaseMs: 6_000, renewDeadlineMs: 4_000, retryMs: 400 };
      const election = new LeaderElection({ api, namespace, name: 'cut', instance: who, ...timing });
      const run = election.run(stop.signal, async (leadership) => {
        const term = { who, fromMs: performance.now(), toMs: Infinity };
        acting.push(term);
        await aborted(leadership.signal);
        term.toMs = performance.now();
      });
      return { stop, run };
    };
    const cut = start('cut', proxied);
    await until(() => acting.length === 1);
    const other = start('other', direct);
    await sleep(1_000);
    proxy.isSilent = true;
    const cutAtMs = performance.now();
    await until(() => acting.some(({ who, fromMs }) => who === 'other' && fromMs > cutAtMs), 60_000);
    proxy.isSilent = false;
    proxy.resetAll();
    await sleep(1_000);
    for (const { stop, run } of [cut, other]) {
      stop.abort();
      await run;
    }
    // On a machine that stalls for seconds there may be more terms than these two; never two at a time.
    const taken = acting.findIndex(({ who, fromMs }) => who === 'other' && fromMs > cutAtMs);
    assert.equal(acting[taken - 1]?.who, 'cut');
    const gapsMs = acting.slice(1).map(({ fromMs }, n) => fromMs - (acting[n]?.toMs ?? Infinity));
    context.diagnostic(`nobody led for ${gapsMs.map(Math.round).join(', ')} ms`);
    assert.ok(
      gapsMs.every((gapMs) => gapMs > 0),
      'two leaders at the same time',
    );
  });
});
