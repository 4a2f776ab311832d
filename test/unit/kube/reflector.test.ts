/** A reflector goes on through everything that breaks lists and watches. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { KubeApi } from '#kube/client.ts';
import { type ConfigMap, configMaps } from '#kube/kinds.ts';
import { Reflector, type ReflectorOptions } from '#kube/reflector.ts';
import { until } from './conformance.ts';
import { FakeApiServer } from './fake/server.ts';

describe('reflector', () => {
  let server: FakeApiServer;
  let api: KubeApi;
  let stop: AbortController;
  let running: Promise<void>;
  let troubles: unknown[];
  let reflector: Reflector<ConfigMap>;

  const start = (options: Partial<ReflectorOptions<ConfigMap>> = {}): void => {
    reflector = new Reflector<ConfigMap>({
      api,
      type: configMaps,
      backoff: { baseMs: 10, maxMs: 50 },
      onTrouble: (error) => troubles.push(error),
      ...options,
    });
    running = reflector.run(stop.signal);
  };
  const make = (name: string): void => {
    server.storage.create('v1/configmaps', 'a', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name } });
  };
  const has = (name: string): boolean => reflector.store.get(`a/${name}`) !== undefined;
  const lists = (): number => server.requests.filter((request) => request.includes('limit=')).length;

  beforeEach(async () => {
    server = new FakeApiServer();
    await server.start();
    api = new KubeApi(server.configuration);
    stop = new AbortController();
    troubles = [];
  });
  afterEach(async () => {
    stop.abort();
    await running;
    await api.close();
    await server.stop();
  });

  it('lists again when the watch is reset, and misses nothing that happened meanwhile', async () => {
    make('one');
    start();
    await reflector.synced;
    await until(() => server.openWatches === 1);
    server.resetWatches();
    make('two');
    await until(() => has('two'));
    assert.equal(lists(), 2);
    assert.equal(troubles.length, 1);
  });

  it('goes on from where an orderly end left it, without listing', async () => {
    start({ watchSeconds: 1 });
    await reflector.synced;
    await until(() => server.requests.filter((request) => request.includes('watch=true')).length >= 3);
    make('one');
    await until(() => has('one'));
    assert.equal(lists(), 1);
    assert.deepEqual(troubles, []);
  });

  it('lists again when its resourceVersion is forgotten', async () => {
    start();
    await reflector.synced;
    await until(() => server.openWatches === 1);
    server.bookmarkEveryMs = 1_000_000;
    make('one');
    await until(() => has('one'));
    server.storage.delete('v1/configmaps', 'a/one');
    server.storage.compact();
    server.resetWatches();
    await until(() => !has('one'));
    assert.ok(reflector.hasSynced);
  });

  it('takes a watch in which nothing comes as broken', async () => {
    start({ idleDeadlineMs: 100 });
    await reflector.synced;
    await until(() => server.openWatches === 1);
    server.isSilent = true;
    make('unheard');
    await until(() => has('unheard'));
    assert.match(String(troubles[0]), /silent for 100 ms/);
  });

  it('keeps what it has while the server is away, and comes back by itself', async () => {
    make('one');
    start();
    await reflector.synced;
    await server.stop();
    await until(() => troubles.length >= 3);
    assert.ok(has('one'));
    make('two');
    server.storage.delete('v1/configmaps', 'a/one');
    await server.start();
    await until(() => has('two') && !has('one'));
    assert.equal(reflector.failures, 0);
  });

  it('does not end on answers of 500, 403 or nonsense', async () => {
    server.answerNext(500);
    server.answerNext(403);
    server.answerNext(503, 1, { 'retry-after': '0' });
    start();
    await reflector.synced;
    assert.equal(troubles.length, 3);
  });

  it('begins the list anew when the server forgets it half-way', async () => {
    for (const name of ['a', 'b', 'c', 'd']) make(name);
    let pages = 0;
    server.onRequest = (request) => {
      if (request.url?.includes('limit=2') !== true) return;
      pages += 1;
      if (pages === 2) server.storage.compact();
    };
    start({ pageSize: 2 });
    await reflector.synced;
    assert.equal(reflector.store.size, 4);
    assert.equal(pages, 4);
  });

  it('keeps objects without the bookkeeping of field owners', async () => {
    const metadata = { name: 'one', managedFields: [{ manager: 'kubectl' }] };
    server.storage.create('v1/configmaps', 'a', { apiVersion: 'v1', kind: 'ConfigMap', metadata });
    start();
    await reflector.synced;
    assert.deepEqual(Object.keys(reflector.store.get('a/one')?.metadata ?? {}).includes('managedFields'), false);
    assert.equal(reflector.store.get('a/one')?.metadata.name, 'one');
  });
});
