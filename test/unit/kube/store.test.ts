/** A store tells exactly what changed, and its indexes always agree with its objects. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { ConfigMap } from '#kube/kinds.ts';
import type { Stored } from '#kube/objects.ts';
import { Store } from '#kube/store.ts';

const object = (name: string, version: string, colour = 'red', uid = name): Stored<ConfigMap> => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { namespace: 'a', name, uid, resourceVersion: version, creationTimestamp: '2026-01-01T00:00:00Z' },
  data: { colour },
});
const byColour = { colour: (item: Stored<ConfigMap>) => [item.data?.['colour'] ?? ''] };
const names = (items: readonly Stored<ConfigMap>[]): string[] => items.map(({ metadata }) => metadata.name).toSorted();

describe('store', () => {
  it('says nothing of an object that comes again unchanged', () => {
    const store = new Store<ConfigMap>();
    const heard: string[] = [];
    store.onChange(({ key }) => heard.push(key));
    store.put(object('x', '1'));
    store.put(object('x', '1'));
    store.replace([object('x', '1')]);
    assert.deepEqual(heard, ['a/x']);
  });

  it('knows a new object of an old name by its uid', () => {
    const store = new Store<ConfigMap>();
    store.put(object('x', '1', 'red', 'first'));
    store.put(object('x', '1', 'blue', 'second'));
    assert.equal(store.get('a/x')?.data?.['colour'], 'blue');
  });

  it('a listener that was taken off hears no more', () => {
    const store = new Store<ConfigMap>();
    let heard = 0;
    const stop = store.onChange(() => (heard += 1));
    store.put(object('x', '1'));
    stop();
    store.put(object('x', '2'));
    assert.equal(heard, 1);
  });

  it('refuses an index that there is not', () => {
    assert.throws(() => new Store<ConfigMap>().indexed('colour', 'red'), RangeError);
  });

  it('indexes agree with the objects after any changes', () => {
    const change = fc.record({
      name: fc.constantFrom('x', 'y', 'z'),
      colour: fc.constantFrom('red', 'blue'),
      does: fc.constantFrom('put', 'remove', 'replace'),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
        const store = new Store<ConfigMap>(byColour);
        changes.forEach(({ name, colour, does }, n) => {
          if (does === 'put') store.put(object(name, `${n}`, colour));
          else if (does === 'remove') store.remove(`a/${name}`);
          else store.replace([object(name, `${n}`, colour)]);
        });
        for (const colour of ['red', 'blue']) {
          const expected = store.list().filter((item) => item.data?.['colour'] === colour);
          assert.deepEqual(names(store.indexed('colour', colour)), names(expected));
        }
        assert.deepEqual(names(store.list('a')), names(store.list()));
      }),
    );
  });
});
