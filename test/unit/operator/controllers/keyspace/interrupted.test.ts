/**
 * The keyspace controller killed at each of its writes, before or just after the API server did it, and started again: the outcome
 * is the same, no password was ever made twice, and no ordinal was ever given anew.
 */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { groupVersion } from '#crds/index.ts';
import { KubeApi } from '#kube/client.ts';
import { EventRecorder } from '#kube/events.ts';
import { createKeyspaceController } from '#operator/controllers/keyspace/index.ts';
import { ControllerRuntime } from '#operator/runtime/runtime.ts';
import { until } from '../../../kube/conformance.ts';
import { FakeApiServer } from '../../../kube/fake/server.ts';
import { keyspace } from './world.ts';

const silent = pino({ level: 'silent' });
const collections = {
  keyspaces: 'meridian.db/v1alpha1/keyspaces',
  regions: 'meridian.db/v1alpha1/regions',
  shards: 'meridian.db/v1alpha1/shards',
  secrets: 'v1/secrets',
  deployments: 'apps/v1/deployments',
  services: 'v1/services',
} as const;

/** One process of the operator with nothing but this controller. */
class Life {
  readonly #stop = new AbortController();
  readonly #kube: KubeApi;
  readonly #recorder: EventRecorder;
  readonly #ended: Promise<unknown>;

  constructor(server: FakeApiServer) {
    this.#kube = new KubeApi(server.configuration);
    this.#recorder = new EventRecorder({ api: this.#kube, controller: 'meridian.db/operator', instance: 'test' });
    const metrics = new Registry();
    const runtime = new ControllerRuntime({ kube: this.#kube, recorder: this.#recorder, log: silent, metrics });
    runtime.register(
      createKeyspaceController({
        kube: this.#kube,
        images: { postgres: 'postgres:1', programs: 'programs:1' },
        leaderTerm: () => 1,
        takeovers: { handOver: () => undefined, reportOf: () => undefined },
        operatorNamespace: 'prod',
        log: silent,
        metrics,
      }),
    );
    const { signal } = this.#stop;
    const leadership = {
      term: 1,
      identity: 'test',
      signal,
      isHeld: () => !signal.aborted,
      resign: () => undefined,
    };
    this.#ended = Promise.all([runtime.watch(signal), runtime.lead(leadership)]);
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
    await this.#recorder.close();
    await this.#kube.close();
  }
}

const isWrite = (request: IncomingMessage): boolean =>
  request.method !== 'GET' && !(request.url ?? '').includes('/events');

describe('the keyspace controller, killed', () => {
  let server: FakeApiServer;
  let life: Life;
  let passwords: Map<string, Set<string>>;
  let ordinals: Map<string, Set<number>>;

  beforeEach(begin);
  afterEach(finish);

  async function begin(): Promise<void> {
    server = new FakeApiServer();
    await server.start();
    passwords = new Map();
    ordinals = new Map();
    server.storage.onChange(({ collection, object }) => {
      const { data, status } = object as unknown as {
        data?: Record<string, string>;
        status?: { shards?: { name: string; ordinal: number }[] };
      };
      if (collection === collections.secrets && data?.['password'] !== undefined)
        remember(passwords, object.metadata.name, data['password']);
      if (collection === collections.keyspaces)
        for (const { name, ordinal } of status?.shards ?? []) remember(ordinals, name, ordinal);
    });
    const make = (collection: string, kind: string, name: string, spec: object): void => {
      const object = { apiVersion: groupVersion, kind, metadata: { name }, spec };
      server.storage.create(collection, 'prod', object);
    };
    for (const name of ['eu', 'us']) make(collections.regions, 'Region', name, { proximity: [], drain: false });
    for (const name of ['a', 'b']) make(collections.shards, 'Shard', name, { keyspace: 'shop', primaryRegion: 'eu' });
    const regions = ['eu', 'us'].map((region) => ({
      region,
      replicas: 1,
      workers: 1,
      serviceType: 'ClusterIP' as const,
    }));
    const { spec } = keyspace({ routers: { ...keyspace().spec.routers, regions } });
    make(collections.keyspaces, 'Keyspace', 'shop', spec);
  }

  async function finish(): Promise<void> {
    await life.end();
    await server.stop();
  }

  function remember<T>(known: Map<string, Set<T>>, name: string, value: T): void {
    known.set(name, (known.get(name) ?? new Set<T>()).add(value));
  }

  /** What has come out: names of objects, and what the Keyspace says. */
  function outcome(): object {
    const names = (collection: string): string[] =>
      server.storage
        .list(collection, 'prod')
        .map(({ metadata }) => metadata.name)
        .toSorted();
    const { status } = server.storage.get(collections.keyspaces, 'prod/shop') as unknown as {
      status?: {
        shards?: { name: string; ordinal: number }[];
        conditions?: { type: string; status: string; reason: string }[];
      };
    };
    return {
      secrets: names(collections.secrets),
      deployments: names(collections.deployments),
      services: names(collections.services),
      shards: status?.shards,
      conditions: status?.conditions?.map(({ type, status: is, reason }) => `${type} ${is} ${reason}`).toSorted(),
    };
  }

  const isSettled = (): boolean => {
    const { shards, conditions } = outcome() as { shards?: unknown[]; conditions?: string[] };
    return shards?.length === 2 && conditions?.includes('RoutersReady False NotEnough') === true && isQuiet();
  };

  let writesSeen = 0;
  let quietSince = 0;
  function isQuiet(): boolean {
    const writes = server.requests.filter((line) => !line.startsWith('GET') && !line.includes('/events')).length;
    if (writes !== writesSeen) {
      writesSeen = writes;
      quietSince = performance.now();
    }
    return performance.now() - quietSince > 300;
  }

  async function expectSettled(expected: object): Promise<void> {
    await until(isSettled);
    assert.deepEqual(outcome(), expected);
    for (const [name, seen] of passwords) assert.equal(seen.size, 1, `${name} had ${seen.size} passwords`);
    for (const [name, seen] of ordinals) assert.equal(seen.size, 1, `${name} had the ordinals ${[...seen].join(', ')}`);
  }

  const expected = {
    secrets: ['shop-ca', 'shop-operator-tls', 'shop-role-shop-app', 'shop-router-tls', 'shop-token-keys'],
    deployments: ['shop-router-eu', 'shop-router-us'],
    services: ['shop-router-eu', 'shop-router-us', 'shop-routers'],
    shards: [
      { name: 'a', ordinal: 0, migrations: 0, ready: false },
      { name: 'b', ordinal: 1, migrations: 0, ready: false },
    ],
    conditions: [
      'CertificatesValid True Issued',
      'MigrationsApplied False Pending',
      'Ready False NotInitialised',
      'Reconciled True Reconciled',
      'RegionsKnown True AllDeclared',
      'RolesReady False WaitingForShards',
      'RoutersReady False NotEnough',
      'ShardsReady False NotInitialised',
      'TablesProtected Unknown NoShardReached',
    ],
  };

  test('never: it settles, and then writes nothing more', async () => {
    life = new Life(server);
    await expectSettled(expected);
  });

  /** Kills the process at its n-th write; false when it came to its end before. */
  async function isKilledAtWrite(n: number, isDone: boolean): Promise<boolean> {
    let writes = 0;
    let isKilled = false;
    server.onRequest = (request) => {
      if (isKilled || !isWrite(request) || ++writes !== n) return;
      isKilled = true;
      if (isDone) setTimeout(() => request.socket.destroy(), 3);
      else server.resetNext();
      void life.end();
    };
    life = new Life(server);
    await until(() => isKilled || isSettled());
    await life.end();
    server.onRequest = undefined;
    return isKilled;
  }

  test('at each write, in turn before and just after it is done', async (t) => {
    let n = 1;
    for (; ; n++) {
      if (!(await isKilledAtWrite(n, n % 2 === 0))) break;
      life = new Life(server);
      await expectSettled(expected);
      await finish();
      await begin();
    }
    t.diagnostic(`killed at each of ${n - 1} writes`);
    assert.ok(n > 15, `only ${n - 1} writes`);
  });
});
