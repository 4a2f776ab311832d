/**
 * The Kubernetes Lease of a primary without acknowledging followers, on a real API server, with the rights that a member's
 * service account has for it: who takes it, who waits, who loses it, and what a primary's lease thread makes of it.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubernetesLease } from '#agent/lease/kubernetes-lease.ts';
import type { KubernetesLeasePlace } from '#agent/lease/messages.ts';
import { bootTimeMs } from '#clock/boot-time.ts';
import { type Cluster, ensureCluster } from '#cluster/cluster.ts';
import { kubernetesLeaseMs, leaseMarginMs } from '#core/authority/timing.ts';
import { replicationName } from '#core/identity.ts';
import { kubeconfigConfiguration } from '#kube/kubeconfig.ts';
import { a, b, c, following, Keepers, serving, until } from '#test/unit/agent/lease/keepers.ts';
import { TcpProxy } from './tcp-proxy.ts';

/** What operator/resources gives a member's service account for its Lease. */
const rights = (namespace: string): object => ({
  apiVersion: 'v1',
  kind: 'List',
  items: [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'member', namespace } },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'member', namespace },
      rules: [{ apiGroups: ['coordination.k8s.io'], resources: ['leases'], verbs: ['get', 'create', 'update'] }],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'member', namespace },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'member' },
      subjects: [{ kind: 'ServiceAccount', name: 'member', namespace }],
    },
  ],
});

class Holder {
  readonly lease: KubernetesLease;
  readonly said: string[] = [];
  untilMs = 0;

  constructor(place: KubernetesLeasePlace) {
    this.lease = new KubernetesLease({
      place,
      now: bootTimeMs,
      onHeld: (untilMs) => {
        this.untilMs = untilMs;
      },
      log: {
        info: (_details, message) => this.said.push(message),
        warn: (details, message) => this.said.push(`${message} ${JSON.stringify(details)}`),
        error: (_details, message) => this.said.push(message),
      },
    });
  }
}

describe('the Kubernetes Lease of a primary', { concurrency: 4 }, () => {
  const namespace = `lease-${randomBytes(3).toString('hex')}`;
  let cluster: Cluster;
  let folder: string;
  let base: Omit<KubernetesLeasePlace, 'name'>;
  before(async () => {
    cluster = await ensureCluster();
    folder = await mkdtemp(join(tmpdir(), 'meridian-lease-'));
    await cluster.kubectl(['create', 'namespace', namespace]);
    await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(rights(namespace)));
    const configuration = await kubeconfigConfiguration(cluster.kubeconfigPath);
    const { ca = '' } = await configuration.credentials();
    await writeFile(join(folder, 'ca.crt'), ca);
    const token = await cluster.kubectl(['create', 'token', 'member', '--namespace', namespace, '--duration=1h']);
    await writeFile(join(folder, 'token'), token);
    const { hostname, port } = new URL(configuration.server);
    base = { host: hostname, port, serviceAccount: folder, namespace };
  });
  after(async () => {
    await cluster.kubectl(['delete', 'namespace', namespace, '--wait=false']);
    await rm(folder, { recursive: true, force: true });
  });

  const holderOf = (t: TestContext, name: string, where: { host?: string; port?: string } = {}): Holder => {
    const holder = new Holder({ ...base, ...where, name });
    t.after(() => holder.lease.close());
    return holder;
  };
  const specOf = async (name: string): Promise<Record<string, unknown>> =>
    JSON.parse(await cluster.kubectl(['get', 'lease', name, '--namespace', namespace, '-o', 'jsonpath={.spec}']));

  it('is taken, renewed, held from before each request, and given up', async (t) => {
    const holder = holderOf(t, 'kept');
    const beforeMs = bootTimeMs();
    holder.lease.claim({ holder: replicationName(a), epoch: 3 });
    await until(() => holder.untilMs > 0, 'taken');
    const firstMs = holder.untilMs;
    assert.ok(firstMs >= beforeMs + kubernetesLeaseMs - leaseMarginMs && firstMs < bootTimeMs() + kubernetesLeaseMs);
    const { holderIdentity, leaseTransitions, leaseDurationSeconds } = await specOf('kept');
    assert.deepEqual([holderIdentity, leaseTransitions, leaseDurationSeconds], [replicationName(a), 3, 15]);
    await until(() => holder.untilMs > firstMs, 'renewed');
    await holder.lease.release();
    assert.equal((await specOf('kept'))['holderIdentity'], '');
    const next = holderOf(t, 'kept');
    next.lease.claim({ holder: replicationName(b), epoch: 3 });
    const tookMs = await until(() => next.untilMs > 0, 'taken by the next');
    assert.ok(tookMs < kubernetesLeaseMs, 'at once: it did not have to run out');
  });

  it('is waited for while another holds it at the same epoch, and taken at once for a later one', async (t) => {
    const [first, same, later] = [holderOf(t, 'two'), holderOf(t, 'two'), holderOf(t, 'two')];
    first.lease.claim({ holder: replicationName(a), epoch: 1 });
    await until(() => first.untilMs > 0, 'taken');
    same.lease.claim({ holder: replicationName(b), epoch: 1 });
    await until(() => /holds the Lease of this epoch/.test(same.said.join()), 'waits');
    await sleep(3_000);
    assert.equal(same.untilMs, 0);
    later.lease.claim({ holder: replicationName(b), epoch: 2 });
    await until(() => later.untilMs > 0, 'taken');
    await until(() => first.untilMs === 0, 'the one before finds out at its next renewal');
    await until(() => /is of epoch 2 already/.test(first.said.join()), 'and says so');
    await sleep(2_500);
    assert.equal(first.untilMs, 0);
    assert.equal((await specOf('two'))['holderIdentity'], replicationName(b));
  });

  it('is taken from a silent holder only after it was seen unchanged for all its time', async (t) => {
    const [silent, next] = [holderOf(t, 'silent'), holderOf(t, 'silent')];
    silent.lease.claim({ holder: replicationName(a), epoch: 1 });
    await until(() => silent.untilMs > 0, 'taken');
    silent.lease.close();
    const sinceMs = bootTimeMs();
    next.lease.claim({ holder: replicationName(b), epoch: 1 });
    await until(() => next.untilMs > 0, 'taken', 90_000);
    assert.ok(bootTimeMs() - sinceMs > kubernetesLeaseMs, 'not before');
    assert.ok(silent.untilMs < bootTimeMs(), 'and when the one before had it no more');
  });

  it('is found its own by whom it was handed to', async (t) => {
    const [old, chosen, another] = [holderOf(t, 'handed'), holderOf(t, 'handed'), holderOf(t, 'handed')];
    old.lease.claim({ holder: replicationName(a), epoch: 1 });
    await until(() => old.untilMs > 0, 'taken');
    // As a takeover does it before it decides.
    const patch = JSON.stringify({ spec: { holderIdentity: replicationName(b) } });
    await cluster.kubectl(['patch', 'lease', 'handed', '--namespace', namespace, '--type=merge', '-p', patch]);
    await until(() => old.untilMs === 0, 'lost');
    // Of the Lease's own epoch, of which everybody else has to wait: a later one would be let in whoever was named.
    another.lease.claim({ holder: replicationName(c), epoch: 1 });
    await until(() => /holds the Lease of this epoch/.test(another.said.join()), 'another waits');
    chosen.lease.claim({ holder: replicationName(b), epoch: 1 });
    await until(() => chosen.untilMs > 0, 'held');
    assert.equal(another.untilMs, 0);
  });

  it('is taken again by its holder after somebody deleted it', async (t) => {
    const holder = holderOf(t, 'deleted');
    holder.lease.claim({ holder: replicationName(a), epoch: 1 });
    await until(() => holder.untilMs > 0, 'taken');
    await cluster.kubectl(['delete', 'lease', 'deleted', '--namespace', namespace]);
    const deletedMs = bootTimeMs();
    await until(() => holder.untilMs > deletedMs + kubernetesLeaseMs - leaseMarginMs, 'renewed');
    assert.equal((await specOf('deleted'))['holderIdentity'], replicationName(a));
  });

  it('runs out while the API server is away, and no sooner', async (t) => {
    const proxy = new TcpProxy({ host: base.host, port: Number(base.port) });
    const port = await proxy.listen();
    const holder = holderOf(t, 'away', { host: '127.0.0.1', port: String(port) });
    t.after(() => proxy.close());
    holder.lease.claim({ holder: replicationName(a), epoch: 1 });
    await until(() => holder.untilMs > 0, 'taken');
    proxy.isSilent = true;
    // A renewal that was under way may still have counted.
    await until(() => /is not renewed/.test(holder.said.join()), 'said');
    const { untilMs } = holder;
    assert.ok(untilMs > bootTimeMs(), 'one renewal that fails costs nothing');
    while (bootTimeMs() < untilMs + 1_000) {
      assert.equal(holder.untilMs, untilMs, 'neither given up before its time nor held beyond it');
      await sleep(50);
    }
    proxy.isSilent = false;
    proxy.resetAll();
    await until(() => holder.untilMs > bootTimeMs(), 'held again');
  });

  it('keeps a primary by itself, and is given up only when nothing is left of that', async (t) => {
    const keepers = await Keepers.make();
    t.after(() => keepers.closeAll());
    const primary = await keepers.start(a, { kubernetes: { ...base, name: 'kept-by-it' } });
    await primary.serve(serving([b], { lease: { members: [b], required: 0, kubernetes: true } }));
    await until(() => (primary.remainingMs() ?? 0) > 10_000, 'held by the Lease');
    await primary.arm(0);
    await primary.stop();
    await sleep(500);
    assert.equal((await specOf('kept-by-it'))['holderIdentity'], replicationName(a), 'kept while anything may be left');
    await primary.disarm();
    for (let attempt = 0; (await specOf('kept-by-it'))['holderIdentity'] !== ''; attempt++) {
      assert.ok(attempt < 50, 'given up when nothing is');
      await sleep(100);
    }
  });

  it('is not needed while all followers together grant; one of them that does not is enough to need it', async (t) => {
    const keepers = await Keepers.make();
    t.after(() => keepers.closeAll());
    // A documentation address (RFC 5737): no API server answers there.
    const away = { ...base, host: '192.0.2.1', name: 'away-from-it' };
    const primary = await keepers.start(a, { kubernetes: away });
    const [one, other] = [await keepers.start(b), await keepers.start(c)];
    await primary.serve(serving([b, c], { lease: { members: [b, c], required: 0, kubernetes: true } }));
    await one.follow(following(a, primary.port));
    await sleep(2_000);
    assert.equal(primary.remainingMs(), 0, 'one of two');
    await other.follow(following(a, primary.port));
    await until(() => (primary.remainingMs() ?? 0) > 0, 'held by both');
    await other.stop();
    await until(() => primary.remainingMs() === 0, 'lost with one of them');
  });
});
