/** Our certificate for a keyspace: kept while the API server is away, and made only by whoever may. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { KubeApi } from '#kube/client.ts';
import { secrets } from '#kube/kinds.ts';
import type { KubeObject, Stored } from '#kube/objects.ts';
import { CredentialStore } from '#operator/agents/credentials.ts';
import { FakeApiServer } from '../../kube/fake/server.ts';

const keyspace: Stored<KubeObject> = {
  apiVersion: 'meridian.db/v1alpha1',
  kind: 'Keyspace',
  metadata: { namespace: 'prod', name: 'shop', uid: 'ks', resourceVersion: '1', creationTimestamp: '' },
};
const server = new FakeApiServer();
let api: KubeApi;
before(async () => {
  await server.start();
  api = new KubeApi(server.configuration);
});
after(async () => {
  await api.close();
  await server.stop();
});

test('a replica that may not make any takes what another has made, and asks for it only so often', async () => {
  const reader = new CredentialStore(api, { issues: false });
  await assert.rejects(reader.of(keyspace));
  const before = server.requests.length;
  await assert.rejects(reader.of(keyspace));
  assert.equal(server.requests.length, before, 'not at every question to every member');
  assert.equal((await api.of(secrets).list({ namespace: 'prod' })).items.length, 0, 'it made nothing');

  const made = await new CredentialStore(api).of(keyspace);
  const found = await new CredentialStore(api, { issues: false }).of(keyspace);
  assert.equal(found.certificate, made.certificate);
  assert.equal(found.bundle, made.bundle);
});

test('what is known is used without the API server', async (context) => {
  const store = new CredentialStore(api);
  const made = await store.of(keyspace);
  context.mock.method(performance, 'now', () => Number.MAX_SAFE_INTEGER / 2);
  await server.stop();
  assert.deepEqual(await store.of(keyspace), made);
  await server.start();
});
