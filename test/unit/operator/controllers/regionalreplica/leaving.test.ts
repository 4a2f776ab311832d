/** A RegionalReplica that goes, and a swap of the record that was decided while it was still there: against a real HTTP API. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { KubeApi } from '#kube/client.ts';
import { isConflict } from '#kube/errors.ts';
import { type RegionalReplica, type Shard, shards } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { act } from '#operator/controllers/regionalreplica/act.ts';
import { hasAnnounced } from '#operator/controllers/regionalreplica/leaving.ts';
import type { Applier } from '#operator/resources/applier.ts';
import type { Cache, ControllerDeps } from '#operator/runtime/controller.ts';
import { FakeApiServer } from '../../../kube/fake/server.ts';

const reference = { namespace: 'prod', name: 'a' };
const replica = { metadata: { namespace: 'prod', name: 'a-eu', uid: 'uid-a-eu' } } as Stored<RegionalReplica>;
const shard = { apiVersion: 'meridian.db/v1alpha1', kind: 'Shard', metadata: reference, spec: {} } as Shard;

let server: FakeApiServer;
let kube: KubeApi;

beforeEach(async () => {
  server = new FakeApiServer();
  await server.start();
  kube = new KubeApi(server.configuration);
});
afterEach(async () => {
  await kube.close();
  await server.stop();
});

const announce = ({ metadata }: Stored<Shard>): Promise<void> =>
  act(
    { kind: 'AnnounceLeaving', shard: metadata.name, shardUid: metadata.uid },
    { kube } as ControllerDeps,
    {} as Applier,
    { cache: {} as Cache, object: replica },
  );

test('a swap of the record that was decided before the announcement fails, and who reads after it sees it', async () => {
  const before = await kube.of(shards).create(shard);
  await announce(before);
  await assert.rejects(kube.of(shards).updateStatus({ ...before, status: { phase: 'Ready' } }), isConflict);
  const after = await kube.of(shards).get(reference);
  assert.ok(hasAnnounced(after, replica));
  assert.equal(after.status?.phase, undefined);
  await kube.of(shards).updateStatus({ ...after, status: { phase: 'Ready' } });
});

test('nothing is announced on a Shard that was made anew meanwhile', async () => {
  const before = await kube.of(shards).create(shard);
  await kube.of(shards).delete(reference);
  await kube.of(shards).create(shard);
  await assert.rejects(announce(before), isConflict);
});
