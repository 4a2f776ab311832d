/** The Lease of a shard with k = 0, as a replica watches it and hands it over. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { decideLease } from '#agent/lease/kubernetes-lease.ts';
import { KubeApi } from '#kube/client.ts';
import { leases } from '#kube/kinds.ts';
import { ShardLeaseWatch } from '#operator/takeover/lease-watch.ts';
import { FakeApiServer } from '../../kube/fake/server.ts';

const reference = { namespace: 'shop', name: 'shop-a-authority' };
const target = { name: 'shop-a-us-0', incarnation: '0000000000000002' };

describe('the Lease of a shard', () => {
  let server: FakeApiServer;
  let api: KubeApi;
  let watch: ShardLeaseWatch;
  let nowMs = 0;

  beforeEach(async () => {
    server = new FakeApiServer();
    await server.start();
    api = new KubeApi(server.configuration);
    nowMs = 10_000;
    watch = new ShardLeaseWatch(api, { namespace: 'shop', name: 'shop-a' }, () => nowMs);
  });
  afterEach(async () => {
    await api.close();
    await server.stop();
  });

  const renew = async (holderIdentity: string): Promise<void> => {
    const present = await api.of(leases).find(reference);
    const lease = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: present?.metadata ?? reference,
      spec: { holderIdentity, renewTime: new Date(nowMs).toISOString() },
    };
    await (present === undefined ? api.of(leases).create(lease) : api.of(leases).update(lease));
  };

  it('is unknown until it was looked at, and is held by nobody where there is none', async () => {
    assert.equal(watch.watched, undefined);
    assert.deepEqual(await watch.look(), { holder: '', unchangedSinceMs: 10_000 });
  });

  it('ages on our own clock from when we saw it, and starts anew with each renewal', async () => {
    await renew('shop-a-eu-0/0000000000000001');
    assert.deepEqual(await watch.look(), { holder: 'shop-a-eu-0/0000000000000001', unchangedSinceMs: 10_000 });
    nowMs += 5_000;
    assert.equal((await watch.look())?.unchangedSinceMs, 10_000);
    await renew('shop-a-eu-0/0000000000000001');
    nowMs += 5_000;
    assert.equal((await watch.look())?.unchangedSinceMs, 20_000);
  });

  it('stays as it was seen while the API server is away', async () => {
    await renew('shop-a-eu-0/0000000000000001');
    const seen = await watch.look();
    await server.stop();
    nowMs += 5_000;
    assert.deepEqual(await watch.look(), seen);
    await server.start();
  });

  it('is handed over by the version that was seen; a renewal in between wins', async () => {
    await renew('shop-a-eu-0/0000000000000001');
    await watch.look();
    nowMs += 100;
    await renew('shop-a-eu-0/0000000000000001');
    await watch.hand(target, 3);
    assert.equal((await watch.look())?.holder, 'shop-a-eu-0/0000000000000001');
    await watch.hand(target, 3);
    nowMs += 2_000;
    assert.equal((await watch.look())?.holder, 'shop-a-us-0/0000000000000002');
  });

  it('is handed over with its epoch, so that the primary of an earlier one never takes it back', async () => {
    await renew('shop-a-eu-0/0000000000000001');
    await watch.look();
    await watch.hand(target, 3);
    const handed = await api.of(leases).get(reference);
    assert.equal(handed.spec?.leaseTransitions, 3);
    const given = { metadata: { resourceVersion: '1' }, spec: { ...handed.spec, holderIdentity: '' } };
    const old = { holder: 'shop-a-eu-0/0000000000000001', epoch: 2 };
    assert.equal(decideLease(given, old, 60_000).kind, 'Lost', 'not even when it was given up since');
    assert.equal(decideLease(given, { holder: 'shop-a-us-0/0000000000000002', epoch: 3 }, 0).kind, 'Write');
  });

  it('is looked at anew before a decision: neither what was seen a moment ago nor a failure will do', async () => {
    await renew('shop-a-eu-0/0000000000000001');
    await watch.look();
    await renew(`shop-a-us-0/0000000000000002`);
    assert.equal((await watch.look())?.holder, 'shop-a-eu-0/0000000000000001', 'it was looked at just now');
    assert.equal((await watch.lookAnew())?.holder, 'shop-a-us-0/0000000000000002');
    await server.stop();
    await assert.rejects(watch.lookAnew());
    await server.start();
  });

  it('is made where there is none', async () => {
    await watch.look();
    await watch.hand(target, 3);
    assert.equal((await api.of(leases).get(reference)).spec?.holderIdentity, 'shop-a-us-0/0000000000000002');
  });
});
