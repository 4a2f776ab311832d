/** What controllers may rely on, shown with small controllers against an API server of our own. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { KubeApi } from '#kube/client.ts';
import { findCondition } from '#kube/conditions.ts';
import { EventRecorder } from '#kube/events.ts';
import { type ConfigMap, configMaps, meridianType } from '#kube/kinds.ts';
import type { Leadership } from '#kube/lease.ts';
import { type CustomObject, controllerReference, type Stored } from '#kube/objects.ts';
import { type Controller, type StatusBase, watch } from '#operator/runtime/controller.ts';
import { ControllerRuntime } from '#operator/runtime/runtime.ts';
import { until } from '../../kube/conformance.ts';
import { FakeApiServer } from '../../kube/fake/server.ts';

interface GadgetStatus extends StatusBase {
  readonly copies?: number | undefined;
  readonly owner?: string | undefined;
}
type Gadget = CustomObject<{ readonly copies: number }, GadgetStatus>;
const gadgets = meridianType<Gadget>('Gadget', 'gadgets');
const collection = 'meridian.db/v1alpha1/gadgets';

interface Action {
  readonly kind: string;
  readonly name: string;
}
interface Seen {
  readonly gadget: Stored<Gadget>;
  readonly made: readonly Stored<ConfigMap>[];
}

describe('controller runtime', () => {
  let server: FakeApiServer;
  let kube: KubeApi;
  let stop: AbortController;
  let runtime: ControllerRuntime;
  let recorder: EventRecorder;
  let logged: Record<string, unknown>[];
  let leading: Promise<void> = Promise.resolve();
  let watching: Promise<void> = Promise.resolve();
  let isHeld = true;

  beforeEach(async () => {
    server = new FakeApiServer();
    await server.start();
    kube = new KubeApi(server.configuration);
    recorder = new EventRecorder({ api: kube, controller: 'meridian.db/test', instance: 'test-0' });
    stop = new AbortController();
    logged = [];
    isHeld = true;
    const log = pino(
      { level: 'debug', base: null },
      { write: (line: string) => void logged.push(JSON.parse(line) as Record<string, unknown>) },
    );
    runtime = new ControllerRuntime({ kube, recorder, log, metrics: new Registry() });
  });
  afterEach(async () => {
    stop.abort();
    await leading;
    await watching;
    await recorder.close();
    await kube.close();
    await server.stop();
  });

  const controller = (
    changes: Partial<Controller<Gadget, Seen, Action>> & { act?: Controller<Gadget, Seen, Action>['act'] } = {},
  ): Controller<Gadget, Seen, Action> => ({
    type: gadgets,
    watches: [
      watch(configMaps, (map) =>
        map.metadata.labels?.['gadget'] === undefined ? [] : [`a/${map.metadata.labels['gadget']}`],
      ),
    ],
    observe: async (gadget, { cache }) => ({
      gadget,
      made: cache.list(configMaps, { namespace: 'a', labels: { gadget: gadget.metadata.name } }),
    }),
    plan: ({ gadget, made }) => {
      const wanted = Array.from({ length: gadget.spec.copies }, (_, n) => `${gadget.metadata.name}-${n}`);
      const missing = wanted.filter((name) => !made.some((map) => map.metadata.name === name));
      return {
        actions: missing.map((name) => ({ kind: 'make', name })),
        status: { phase: missing.length === 0 ? 'Ready' : 'Making', copies: made.length },
        conditions: [
          missing.length === 0
            ? { type: 'Ready', status: 'True', reason: 'AllMade', message: 'all copies are there' }
            : { type: 'Ready', status: 'False', reason: 'Making', message: `${missing.length} copies are missing` },
        ],
      };
    },
    act: async (action, { object }) => {
      await kube.of(configMaps).apply({
        metadata: {
          namespace: 'a',
          name: action.name,
          labels: { gadget: object.metadata.name, 'app.kubernetes.io/managed-by': 'meridian' },
          ownerReferences: [controllerReference(object)],
        },
        data: {},
      });
    },
    ...changes,
  });
  const start = (made: Controller<Gadget, Seen, Action>): void => {
    runtime.register(made);
    watching = runtime.watch(stop.signal);
    const leadership: Leadership = {
      term: 7,
      identity: 'test-0_1',
      signal: stop.signal,
      isHeld: () => isHeld,
      resign: () => undefined,
    };
    leading = runtime.lead(leadership);
  };
  const make = (name: string, copies: number): void =>
    void server.storage.create(collection, 'a', {
      apiVersion: 'meridian.db/v1alpha1',
      kind: 'Gadget',
      metadata: { name },
      spec: { copies },
    });
  const get = (name: string): Gadget => server.storage.get(collection, `a/${name}`) as unknown as Gadget;
  const writes = (): string[] => server.requests.filter((request) => !request.startsWith('GET'));
  const statusWrites = (): string[] => writes().filter((request) => request.includes('/status'));

  it('makes what is missing, says so in the status, and then is quiet', async () => {
    make('g', 2);
    start(controller());
    await until(() => get('g').status?.phase === 'Ready');
    assert.deepEqual(
      server.storage.list('v1/configmaps', 'a').map((map) => map.metadata.name),
      ['g-0', 'g-1'],
    );
    assert.equal(get('g').status?.observedGeneration, 1);
    assert.equal(findCondition(get('g').status?.conditions, 'Reconciled')?.status, 'True');
    await sleep(100);
    const before = writes().filter((request) => !request.includes('events')).length;
    await sleep(200);
    assert.equal(writes().filter((request) => !request.includes('events')).length, before, 'it goes on writing');
  });

  it('repairs what somebody deletes, and follows a changed spec', async () => {
    make('g', 2);
    start(controller());
    await until(() => get('g').status?.phase === 'Ready');
    server.storage.delete('v1/configmaps', 'a/g-1');
    await until(() => server.storage.list('v1/configmaps', 'a').length === 2);
    server.storage.merge(collection, 'a/g', { spec: { copies: 3 } }, 'object');
    await until(() => get('g').status?.observedGeneration === 2 && get('g').status?.phase === 'Ready');
    assert.equal(server.storage.list('v1/configmaps', 'a').length, 3);
  });

  it('tells each transition once, in the log with the object named and as an Event', async () => {
    make('g', 1);
    start(controller());
    await until(() => get('g').status?.phase === 'Ready');
    const told = (): Record<string, unknown>[] => logged.filter((line) => line['condition'] === 'Ready');
    await until(() => told().length === 2);
    await recorder.close();
    const lines = told();
    assert.deepEqual(
      lines.map((line) => [line['kind'], line['namespace'], line['name'], line['reason'], line['was']]),
      [
        ['Gadget', 'a', 'g', 'Making', undefined],
        ['Gadget', 'a', 'g', 'AllMade', 'Making'],
      ],
    );
    const events = server.storage.list('events.k8s.io/v1/events', 'a').map((event) => event['reason']);
    assert.deepEqual(
      events.toSorted((one, other) => String(one).localeCompare(String(other))),
      ['AllMade', 'Making', 'Making', 'Ready'],
    );
  });

  it('a failed action ends the round, is tried again with a pause, and shows when it goes on', async () => {
    let tries = 0;
    const tried: string[] = [];
    make('g', 2);
    start(
      controller({
        act: async (action) => {
          tried.push(action.name);
          tries += 1;
          throw new Error('no room');
        },
      }),
    );
    await until(() => findCondition(get('g').status?.conditions, 'Reconciled')?.status === 'False');
    assert.deepEqual([...new Set(tried)], ['g-0'], 'actions after the failed one were done');
    assert.equal(findCondition(get('g').status?.conditions, 'Reconciled')?.message, 'no room');
    assert.equal(get('g').status?.phase, 'Making');
    await sleep(300);
    assert.ok(tries < 12, `${tries} tries: no pause`);
  });

  it('what observing throws shows in the condition, and the rest of the status stays', async () => {
    let isBroken = false;
    make('g', 0);
    const base = controller();
    start({
      ...base,
      observe: async (gadget, context) => {
        if (isBroken) throw new Error('agent does not answer');
        return base.observe(gadget, context);
      },
    });
    await until(() => get('g').status?.phase === 'Ready');
    isBroken = true;
    server.storage.merge(collection, 'a/g', { spec: { copies: 1 } }, 'object');
    await until(() => findCondition(get('g').status?.conditions, 'Reconciled')?.status === 'False');
    assert.equal(get('g').status?.phase, 'Ready');
    isBroken = false;
    await until(() => get('g').status?.copies === 1, 15_000);
    assert.equal(findCondition(get('g').status?.conditions, 'Reconciled')?.status, 'True');
  });

  it('puts its finalizer on before doing anything, and takes it off only when the plan releases', async () => {
    let mayGo = false;
    const acted: (readonly string[] | undefined)[] = [];
    make('g', 0);
    start(
      controller({
        finalizer: 'meridian.db/protect',
        plan: ({ gadget }) => ({
          actions: [{ kind: 'note', name: 'x' }],
          release: gadget.metadata.deletionTimestamp !== undefined && mayGo,
          conditions: [{ type: 'Held', status: mayGo ? 'False' : 'True', reason: 'Test', message: 'm' }],
          requeueAfterMs: 30,
        }),
        act: async (_action, { object }) => void acted.push(object.metadata.finalizers),
      }),
    );
    await until(() => acted.length > 0);
    assert.ok(acted.every((finalizers) => finalizers?.includes('meridian.db/protect') === true));
    await kube.of(gadgets).delete({ namespace: 'a', name: 'g' });
    await until(() => findCondition(get('g').status?.conditions, 'Held')?.status === 'True');
    await sleep(150);
    assert.equal(findCondition(get('g').status?.conditions, 'Held')?.status, 'True');
    mayGo = true;
    await until(() => server.storage.list(collection, 'a').length === 0);
  });

  it('recordStatus is a compare-and-swap: over another write the round ends and starts from a new read', async () => {
    let interfere = true;
    const done: string[] = [];
    make('g', 0);
    start(
      controller({
        readsFresh: true,
        plan: ({ gadget }) => ({
          actions:
            gadget.status?.owner === undefined
              ? [
                  { kind: 'record', name: `size ${gadget.spec.copies}` },
                  { kind: 'then', name: 'next' },
                ]
              : [],
          status: { phase: 'Ready', owner: gadget.status?.owner },
        }),
        act: async (action, context) => {
          if (action.kind === 'then') {
            done.push(context.object.status?.owner ?? '(none)');
            return;
          }
          if (interfere) {
            interfere = false;
            server.storage.merge(collection, 'a/g', { spec: { copies: 5 } }, 'object');
          }
          await context.recordStatus({ owner: action.name });
        },
      }),
    );
    await until(() => get('g').status?.phase === 'Ready');
    assert.equal(get('g').status?.owner, 'size 5', 'the stale decision was written, or the record was lost');
    assert.deepEqual(done, ['size 5']);
  });

  it('what a round recorded is not undone by the status that was planned before', async () => {
    make('g', 0);
    start(
      controller({
        readsFresh: true,
        plan: ({ gadget }) => ({
          actions: gadget.status?.owner === undefined ? [{ kind: 'record', name: 'me' }] : [],
          status: { phase: gadget.status?.owner === undefined ? 'Choosing' : 'Chosen' },
          ...(gadget.status?.owner === undefined ? {} : { status: { phase: 'Chosen', owner: gadget.status.owner } }),
        }),
        act: async (action, context) => context.recordStatus({ owner: action.name }),
      }),
    );
    await until(() => get('g').status?.phase === 'Chosen');
    const owners = server.storage.log
      .filter((change) => change.collection === collection)
      .map((change) => (change.object['status'] as GadgetStatus | undefined)?.owner);
    assert.deepEqual(
      owners.slice(owners.indexOf('me')).filter((owner) => owner !== 'me'),
      [],
    );
  });

  it('conclude may report what the actions found out', async () => {
    make('g', 1);
    start(
      controller({
        act: async () => {
          throw new Error('syntax error in migration 3');
        },
        conclude: (_seen, _plan, results) => {
          const [first] = results;
          const message = first?.outcome === 'failed' && first.error instanceof Error ? first.error.message : '';
          return {
            status: { phase: 'Failed' },
            conditions: [{ type: 'Migrated', status: 'False', reason: 'MigrationFailed', message, warning: true }],
          };
        },
      }),
    );
    await until(() => get('g').status?.phase === 'Failed');
    assert.equal(findCondition(get('g').status?.conditions, 'Migrated')?.message, 'syntax error in migration 3');
  });

  it('does nothing any more once the lease is in doubt, even before it is told', async () => {
    make('g', 1);
    start(
      controller({
        plan: () => ({
          actions: [
            { kind: 'x', name: 'one' },
            { kind: 'x', name: 'two' },
          ],
          status: { phase: 'Ready' },
        }),
        act: async (action) => {
          isHeld = false;
          server.requests.push(`ACT ${action.name}`);
        },
      }),
    );
    await until(() => server.requests.includes('ACT one'));
    await sleep(200);
    assert.equal(server.requests.filter((request) => request.startsWith('ACT')).join(), 'ACT one');
    assert.deepEqual(statusWrites(), []);
  });

  it('a standby watches and touches nothing', async () => {
    make('g', 1);
    runtime.register(controller());
    watching = runtime.watch(stop.signal);
    await until(() => runtime.cache.hasSynced);
    await sleep(100);
    assert.deepEqual(writes(), []);
    assert.throws(() => runtime.leaderTerm(), /not leading/);
  });

  it('ending waits for the round under way, and begins no other', async () => {
    let ended = 0;
    let begun = 0;
    make('g', 1);
    make('h', 1);
    start(
      controller({
        concurrency: 1,
        act: async () => {
          begun += 1;
          await sleep(150);
          ended += 1;
        },
      }),
    );
    await until(() => begun === 1);
    assert.equal(runtime.leaderTerm(), 7);
    stop.abort();
    await leading;
    assert.deepEqual([begun, ended], [1, 1]);
  });
});
