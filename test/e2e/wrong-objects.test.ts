/**
 * Every object that is wrong in itself is refused by a real API server, with a message that says what to change.
 * Creations are dry runs; for changes the object as it was is made first, in a namespace of this test's own.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Cluster, ensureCluster } from '#cluster/cluster.ts';
import { CommandError } from '#cluster/process.ts';
import { customResourceDefinitionYaml } from '#crds/generate.ts';
import { kinds } from '#crds/index.ts';
import { installing } from './example.ts';
import { recorded, recordedStatus, statusEdits } from './wrong/status-edits.ts';
import {
  keyspace,
  type Manifest,
  region,
  regionalReplica,
  shard,
  tenant,
  type WrongObject,
  wrongObjects,
} from './wrong-objects.ts';

const namespace = 'e2e-wrong-objects';

/** How kubectl begins each refusal; it goes on after one. (The second form is for one object alone.) */
const beginning = /^(?=Error from server|error: error validating|The \S+ ".*" is invalid)/m;

/** One message per object, in order. */
const refusalsOf = (error: unknown): string[] =>
  (error instanceof CommandError ? error.output : String(error))
    .split(beginning)
    .filter((text) => beginning.test(text));

const isConflict = (refusal: string): boolean => refusal.includes('Error from server (Conflict)');

type Change = Required<WrongObject>;

/** Under a name of its own, so that all can be made at once. */
const renamed = (object: Manifest, index: number): Manifest => ({ ...object, metadata: { name: `change-${index}` } });

describe('the API server', () => {
  let cluster: Cluster;
  const creations = wrongObjects.filter((wrong) => wrong.before === undefined);
  const changes = wrongObjects.flatMap((wrong): Change[] =>
    wrong.before === undefined ? [] : [{ ...wrong, before: wrong.before }],
  );

  const kubectl = (args: readonly string[], objects: readonly Manifest[]): Promise<string> =>
    cluster.kubectl(
      ['-n', namespace, ...args, '-f', '-'],
      objects.map((object) => JSON.stringify(object)).join('\n---\n'),
    );

  /**
   * What is said to each of these objects; all together where all are refused, else one by one to see which isn't. An object
   * that an operator of another test wrote to between kubectl's GET and its PUT says nothing about the change: once more.
   */
  async function refusals(args: readonly string[], objects: readonly Manifest[]): Promise<readonly string[]> {
    const refused = (some: readonly Manifest[]): Promise<string[]> => kubectl(args, some).then(() => [], refusalsOf);
    const together = await refused(objects);
    if (together.length === objects.length && !together.some(isConflict)) return together;
    const each: string[] = [];
    for (const object of objects) {
      let said = await refused([object]);
      for (const until = Date.now() + 20_000; said.some(isConflict) && Date.now() < until; )
        said = await refused([object]);
      each.push(said.join('') || 'it was accepted');
    }
    return each;
  }

  before(async () => {
    cluster = await ensureCluster();
    // Those that are there may be of an earlier checkout.
    await installing(() =>
      cluster.kubectl(
        ['apply', '--server-side', '--force-conflicts', '-f', '-'],
        kinds.map(customResourceDefinitionYaml).join('---\n'),
      ),
    );
    for (const { crdName } of kinds)
      await cluster.kubectl(['wait', '--for=condition=Established', `crd/${crdName}`, '--timeout=120s']);
    await cluster.kubectl(['delete', 'namespace', namespace, '--ignore-not-found', '--timeout=300s']);
    await cluster.kubectl(['create', 'namespace', namespace]);
  });

  after(async () => {
    await cluster.kubectl(['delete', 'namespace', namespace, '--ignore-not-found', '--timeout=300s']);
  });

  test('takes the CRDs as they are in the checkout', async () => {
    await cluster.kubectl(
      ['apply', '--server-side', '--force-conflicts', '--dry-run=server', '-f', '-'],
      kinds.map(customResourceDefinitionYaml).join('---\n'),
    );
  });

  test('explains a field with its meaning, unit and default', async () => {
    const explained = await cluster.kubectl(['explain', 'shard.spec.durability']);
    for (const word of ['acknowledgements', 'scope', 'onLoss', 'Default: 1.', 'Default: Block.'])
      assert.ok(explained.includes(word), explained);
    for (const [field, words] of [
      ['keyspace.spec.roles', ['admin', 'stats may SHOW', 'clientCertificate', 'validUntil', 'RFC|as 2027-', 'limits']],
      ['keyspace.spec.roles.limits', ['connections', 'statementsPerSecond', 'refused (53400)', 'statementTimeoutMs']],
      ['keyspace.spec.routers.regions', ['proxyProtocolFrom', 'PROXY protocol', 'Left out: none.', 'Default: 1.']],
    ] as const) {
      const said = (await cluster.kubectl(['explain', field])).replaceAll(/\s+/g, ' ');
      for (const word of words)
        assert.ok(
          word.split('|').some((form) => said.includes(form)),
          `${word}: ${said}`,
        );
    }
  });

  test('accepts the least that each kind needs', async () => {
    await kubectl(['create', '--dry-run=server'], [region(), keyspace(), shard(), regionalReplica(), tenant()]);
  });

  describe('when an object is made', () => {
    let said: readonly string[] = [];
    before(async () => {
      said = await refusals(
        ['create', '--dry-run=server'],
        creations.map(({ object }) => object),
      );
    });
    for (const [index, { name, message }] of creations.entries()) {
      test(`refuses ${name}`, () => assert.ok(said[index]?.includes(message), said[index]));
    }
  });

  describe('when an object is changed', () => {
    let said: readonly string[] = [];
    before(async () => {
      await kubectl(
        ['create'],
        changes.map(({ before: was }, index) => renamed(was, index)),
      );
      said = await refusals(
        ['replace', '--dry-run=server'],
        changes.map(({ object }, index) => renamed(object, index)),
      );
    });
    for (const [index, { name, message }] of changes.entries()) {
      test(`refuses ${name}`, () => assert.ok(said[index]?.includes(message), said[index]));
    }
  });

  describe('when a record of authority is edited', () => {
    before(async () => {
      await kubectl(['create'], [recorded]);
      await cluster.kubectl([...patchOf(recordedStatus)]);
    });
    const patchOf = (status: object): readonly string[] => [
      '-n',
      namespace,
      'patch',
      'shard',
      recorded.metadata.name,
      '--subresource=status',
      '--type=merge',
      '-p',
      JSON.stringify({ status }),
    ];
    for (const { name, patch, message } of statusEdits)
      test(`${message === undefined ? 'accepts' : 'refuses'} ${name}`, async () => {
        const said = await cluster.kubectl([...patchOf(patch), '--dry-run=server']).then(
          () => undefined,
          (error: unknown) => (error instanceof CommandError ? error.output : String(error)),
        );
        if (message === undefined) assert.equal(said, undefined);
        else assert.ok(said?.includes(message), said ?? 'it was accepted');
      });
  });
});
