/**
 * What `kube/` promises, shown against any API server: our fake one (test/unit) and a real one (test/integration).
 * Uses ConfigMaps, Leases and one custom kind with a status subresource.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeApi } from '#kube/client.ts';
import { ApiError } from '#kube/errors.ts';
import { EventRecorder } from '#kube/events.ts';
import { configMaps, leases, resourceType } from '#kube/kinds.ts';
import { LeaderElection } from '#kube/lease.ts';
import { type CustomObject, controllerReference, type KubeObject, keyOf } from '#kube/objects.ts';
import { Reflector } from '#kube/reflector.ts';

export type Widget = CustomObject<
  { readonly size: number; readonly colour?: string },
  { readonly phase?: string; readonly seen?: number }
>;

export const widgets = resourceType<Widget>('Widget', 'widgets', 'conformance.meridian.db/v1');
const events = resourceType<KubeObject & Record<string, unknown>>('Event', 'events', 'events.k8s.io/v1');

export interface ConformanceTarget {
  readonly api: KubeApi;
  /** Empty, and ours alone. */
  readonly namespace: string;
  close(): Promise<void>;
}

export function describeConformance(name: string, open: () => Promise<ConformanceTarget>): void {
  describe(`kube against ${name}`, () => {
    let target: ConformanceTarget;
    before(async () => {
      target = await open();
    });
    after(async () => {
      await target.close();
    });
    const unique = (prefix: string): string => `${prefix}-${randomBytes(4).toString('hex')}`;
    const widget = (name: string, size = 1): Widget => ({
      apiVersion: 'conformance.meridian.db/v1',
      kind: 'Widget',
      metadata: { namespace: target.namespace, name },
      spec: { size },
    });
    const configMap = (name: string, label = 'plain'): KubeObject & { data: Record<string, string> } => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { namespace: target.namespace, name, labels: { set: label } },
      data: { a: '1' },
    });
    const refusal = async (promise: Promise<unknown>): Promise<ApiError> => {
      try {
        await promise;
      } catch (error) {
        assert.ok(error instanceof ApiError, `not an ApiError: ${String(error)}`);
        return error;
      }
      throw new Error('was not refused');
    };

    it('gives back what was created, with uid and resourceVersion', async () => {
      const client = target.api.of(configMaps);
      const made = await client.create(configMap(unique('made')));
      assert.match(made.metadata.uid, /^[0-9a-f-]{36}$/);
      assert.deepEqual((await client.get(made.metadata)).data, { a: '1' });
    });

    it('finds nothing where there is nothing, and says NotFound', async () => {
      const reference = { namespace: target.namespace, name: unique('absent') };
      assert.equal(await target.api.of(configMaps).find(reference), undefined);
      assert.equal((await refusal(target.api.of(configMaps).get(reference))).isNotFound, true);
      assert.equal(await target.api.of(configMaps).delete(reference), 'absent');
    });

    it('refuses a second object of the same name as AlreadyExists', async () => {
      const object = configMap(unique('twice'));
      await target.api.of(configMaps).create(object);
      assert.equal((await refusal(target.api.of(configMaps).create(object))).isAlreadyExists, true);
    });

    it('lists all pages, with apiVersion and kind on every item', async () => {
      const label = unique('paged');
      for (let n = 0; n < 7; n += 1) await target.api.of(configMaps).create(configMap(`${label}-${n}`, label));
      const listed = await target.api
        .of(configMaps)
        .list({ namespace: target.namespace, labelSelector: `set=${label}`, pageSize: 3 });
      assert.deepEqual(
        listed.items.map((item) => item.metadata.name).toSorted(),
        [0, 1, 2, 3, 4, 5, 6].map((n) => `${label}-${n}`),
      );
      assert.ok(listed.items.every((item) => item.kind === 'ConfigMap' && item.apiVersion === 'v1'));
    });

    it('refuses to replace what somebody changed meanwhile', async () => {
      const client = target.api.of(widgets);
      const first = await client.create(widget(unique('cas')));
      const second = await client.update({ ...first, spec: { size: 2 } });
      assert.notEqual(second.metadata.resourceVersion, first.metadata.resourceVersion);
      const error = await refusal(client.update({ ...first, spec: { size: 3 } }));
      assert.equal(error.isConflict, true);
      assert.equal(error.reason, 'Conflict');
      assert.equal((await client.get(first.metadata)).spec.size, 2);
    });

    it('writes the status alone, and only over the version that was read', async () => {
      const client = target.api.of(widgets);
      const made = await client.create(widget(unique('status')));
      const written = await client.updateStatus({ ...made, spec: { size: 99 }, status: { phase: 'Ready', seen: 1 } });
      assert.deepEqual(written.status, { phase: 'Ready', seen: 1 });
      assert.equal(written.spec.size, 1);
      assert.equal(written.metadata.generation, made.metadata.generation);
      assert.equal((await refusal(client.updateStatus({ ...made, status: { phase: 'Late' } }))).isConflict, true);
      const { resourceVersion: _without, ...metadata } = made.metadata;
      assert.equal((await refusal(client.updateStatus({ ...made, metadata, status: {} }))).status, 400);
    });

    it('an update of the object leaves the status as it is', async () => {
      const client = target.api.of(widgets);
      const made = await client.create(widget(unique('keeps')));
      const written = await client.updateStatus({ ...made, status: { phase: 'Ready' } });
      const updated = await client.update({ ...written, spec: { size: 5 }, status: { phase: 'Forged' } });
      assert.deepEqual(updated.status, { phase: 'Ready' });
      assert.equal(updated.metadata.generation, 2);
    });

    it('apply makes, changes and gives up exactly the fields that it names', async () => {
      const client = target.api.of(widgets);
      const name = unique('applied');
      const metadata = { namespace: target.namespace, name };
      const made = await client.apply({
        metadata: { ...metadata, labels: { one: '1' } },
        spec: { size: 1, colour: 'red' },
      });
      const again = await client.apply({
        metadata: { ...metadata, labels: { one: '1' } },
        spec: { size: 1, colour: 'red' },
      });
      assert.equal(
        again.metadata.resourceVersion,
        made.metadata.resourceVersion,
        'nothing changed, nothing is written',
      );
      await client.apply({ metadata: { ...metadata, labels: { two: '2' } } }, { fieldManager: 'other' });
      const last = await client.apply({ metadata, spec: { size: 3 } });
      assert.deepEqual(last.spec, { size: 3 });
      assert.deepEqual(last.metadata.labels, { two: '2' });
    });

    it('apply without force does not take a field from its owner', async () => {
      const client = target.api.of(widgets);
      const metadata = { namespace: target.namespace, name: unique('owned') };
      await client.apply({ metadata, spec: { size: 1 } });
      const error = await refusal(
        client.apply({ metadata, spec: { size: 2 } }, { fieldManager: 'other', force: false }),
      );
      assert.equal(error.isConflict, true);
      assert.equal((await client.apply({ metadata, spec: { size: 2 } }, { fieldManager: 'other' })).spec.size, 2);
    });

    it('a merge patch changes what it names, and removes what it says is null', async () => {
      const client = target.api.of(configMaps);
      const made = await client.create(configMap(unique('merged')));
      const patched = await client.patch(made.metadata, { data: { a: null, b: '2' } });
      assert.deepEqual(patched.data, { b: '2' });
      const stale = { metadata: { resourceVersion: made.metadata.resourceVersion }, data: { c: '3' } };
      assert.equal((await refusal(client.patch(made.metadata, stale))).isConflict, true);
    });

    it('an object with a finalizer stays, marked, until the finalizer goes', async () => {
      const client = target.api.of(widgets);
      const name = unique('held');
      const made = await client.create({
        ...widget(name),
        metadata: { namespace: target.namespace, name, finalizers: ['meridian.db/test'] },
      });
      assert.equal(await client.delete(made.metadata), 'accepted');
      const marked = await client.get(made.metadata);
      assert.notEqual(marked.metadata.deletionTimestamp, undefined);
      await client.patch(made.metadata, { metadata: { finalizers: [] } });
      assert.equal(await client.find(made.metadata), undefined);
    });

    it('deletes only the very object that was meant', async () => {
      const client = target.api.of(configMaps);
      const made = await client.create(configMap(unique('precise')));
      const wrong = client.delete(made.metadata, { preconditions: { uid: '00000000-0000-0000-0000-000000000000' } });
      assert.equal((await refusal(wrong)).isConflict, true);
      assert.equal(await client.delete(made.metadata, { preconditions: { uid: made.metadata.uid } }), 'accepted');
    });

    it('a reflector holds what is there, hears of changes, and of objects that go', async () => {
      const label = unique('reflected');
      const client = target.api.of(configMaps);
      const first = await client.create(configMap(`${label}-1`, label));
      const stop = new AbortController();
      const reflector = new Reflector({
        api: target.api,
        type: configMaps,
        namespace: target.namespace,
        labelSelector: `set=${label}`,
        pageSize: 2,
      });
      const seen: string[] = [];
      reflector.store.onChange(({ key, before, after }) => {
        const word = before === undefined ? 'new' : after === undefined ? 'gone' : 'changed';
        seen.push(`${word} ${key.slice(target.namespace.length + 1)}`);
      });
      const running = reflector.run(stop.signal);
      await reflector.synced;
      assert.equal(reflector.store.get(keyOf(first))?.data?.['a'], '1');
      await client.create(configMap(`${label}-2`, label));
      await client.patch(first.metadata, { data: { a: '2' } });
      await client.delete(first.metadata);
      await until(() => seen.length >= 4);
      stop.abort();
      await running;
      assert.deepEqual(seen, [`new ${label}-1`, `new ${label}-2`, `changed ${label}-1`, `gone ${label}-1`]);
    });

    it('owner references are taken as they are made', async () => {
      const owner = await target.api.of(widgets).create(widget(unique('owner')));
      const name = unique('owned');
      const owned = await target.api.of(configMaps).create({
        ...configMap(name),
        metadata: { namespace: target.namespace, name, ownerReferences: [controllerReference(owner)] },
      });
      assert.equal(owned.metadata.ownerReferences?.[0]?.uid, owner.metadata.uid);
    });

    it('an election has one leader, and hands over at once when it ends in order', async () => {
      const name = unique('lease');
      const start = (instance: string): { stop: AbortController; run: Promise<void>; terms: number[] } => {
        const election = new LeaderElection({
          api: target.api,
          namespace: target.namespace,
          name,
          instance,
          retryMs: 100,
        });
        const stop = new AbortController();
        const terms: number[] = [];
        const run = election.run(stop.signal, async (leadership) => {
          terms.push(leadership.term);
          assert.equal(leadership.isHeld(), true);
          await aborted(leadership.signal);
        });
        return { stop, run, terms };
      };
      const one = start('one');
      await until(() => one.terms.length === 1);
      const two = start('two');
      await sleep(500);
      assert.equal(two.terms.length, 0, 'two leaders');
      one.stop.abort();
      await one.run;
      const startedAtMs = performance.now();
      await until(() => two.terms.length === 1);
      assert.ok(performance.now() - startedAtMs < 12_000, 'the hand-over waited for the lease of 15 s to run out');
      assert.ok((two.terms[0] ?? 0) > (one.terms[0] ?? Infinity), 'terms grow');
      two.stop.abort();
      await two.run;
      const lease = await target.api.of(leases).get({ namespace: target.namespace, name });
      assert.equal(lease.spec?.holderIdentity ?? '', '');
    });

    it('an Event told again is counted, not repeated', async () => {
      const about = await target.api.of(widgets).create(widget(unique('noted')));
      const recorder = new EventRecorder({ api: target.api, controller: 'meridian.db/test', instance: 'test-0' });
      for (let n = 0; n < 3; n += 1) {
        recorder.record(about, { type: 'Warning', reason: 'Tested', message: 'one and the same' });
        await sleep(150);
      }
      recorder.record(about, { type: 'Normal', reason: 'Tested', message: 'another' });
      await recorder.close();
      const listed = await target.api.of(events).list({ namespace: target.namespace });
      const ours = listed.items.filter(
        (event) => (event['regarding'] as { name?: string }).name === about.metadata.name,
      );
      const counts = ours.map((event) => [event['note'], (event['series'] as { count?: number } | undefined)?.count]);
      assert.deepEqual(Object.fromEntries(counts), { another: undefined, 'one and the same': 3 });
      assert.equal(ours.length, 2);
    });
  });
}

export async function until(isTrue: () => boolean, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!isTrue()) {
    if (performance.now() > deadline) throw new Error(`not so after ${timeoutMs} ms: ${isTrue.toString()}`);
    await sleep(10);
  }
}

export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
