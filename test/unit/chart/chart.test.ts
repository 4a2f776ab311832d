/** The chart: what it renders, what it refuses, and that it grants the operator what it passes on. Uses the pinned helm. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import { ensureGoProgram } from '#cluster/go-programs.ts';
import { memberAccess } from '#operator/resources/member-access.ts';
import { operatorSelector } from '#operator/resources/network-policies.ts';
import { routerAccount } from '#operator/resources/router/account.ts';
import { copyFolder, crdFolder, readCrds } from '../../../charts/copy-crds.ts';

const run = promisify(execFile);
const chart = join(import.meta.dirname, '..', '..', '..', 'charts', 'meridian');
const fixtures = join(import.meta.dirname, 'fixtures');

interface Rule {
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

interface Manifest {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly rules?: readonly Rule[];
  readonly spec?: Readonly<Record<string, unknown>>;
}

describe('chart', () => {
  let helm: string;
  before(async () => {
    helm = join(await ensureGoProgram('helm'), 'helm');
  });

  const template = async (...values: readonly string[]): Promise<string> => {
    const set = values.flatMap((value) => ['--set', value]);
    const { stdout } = await run(
      helm,
      ['template', 'meridian', chart, '--namespace', 'meridian-system', '--kube-version', '1.34.4', ...set],
      {
        maxBuffer: 16 * 1024 * 1024,
      },
    );
    return stdout;
  };
  const render = async (...values: readonly string[]): Promise<readonly Manifest[]> =>
    parseAllDocuments(await template(...values)).map((document) => document.toJS() as Manifest);
  const refusal = async (value: string): Promise<string> => {
    try {
      await template(value);
    } catch (error) {
      return String((error as { stderr?: string }).stderr);
    }
    throw new Error(`${value} was not refused`);
  };
  /** Compares with the committed text; `UPDATE_SNAPSHOTS=1` writes it. */
  const matches = async (name: string, text: string): Promise<void> => {
    const path = join(fixtures, name);
    if (process.env['UPDATE_SNAPSHOTS'] === '1') await writeFile(path, text);
    assert.equal(
      text,
      await readFile(path, 'utf8'),
      `${name} is stale: look at the difference, then UPDATE_SNAPSHOTS=1`,
    );
  };
  const ruleOf = (manifests: readonly Manifest[], kind: string): readonly Rule[] =>
    manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name === 'meridian-operator')?.rules ?? [];

  it('passes helm lint, strictly', async () => {
    await run(helm, ['lint', '--strict', chart]);
  });

  it('renders what was agreed, for the whole cluster', async () => {
    await matches('cluster.yaml', await template('crds.install=false'));
  });

  it('renders what was agreed, for one namespace', async () => {
    await matches('namespaced.yaml', await template('crds.install=false', 'namespaced=true', 'replicas=1'));
  });

  it('makes nothing outside of its namespace in namespaced mode', async () => {
    for (const { kind, metadata } of await render('crds.install=false', 'namespaced=true'))
      assert.equal(metadata.namespace, 'meridian-system', `${kind} ${metadata.name}`);
  });

  it('holds the CRDs as they are in crds/', async () => {
    const [copies, sources] = await Promise.all([readCrds(copyFolder), readCrds(crdFolder)]);
    assert.ok(sources.size >= 5);
    assert.deepEqual(copies, sources, 'stale: run node charts/copy-crds.ts');
  });

  it('installs every CRD unchanged, and keeps it when the chart is removed', async () => {
    const rendered = (await render()).filter(({ kind }) => kind === 'CustomResourceDefinition');
    const sources = parseAllDocuments([...(await readCrds(crdFolder)).values()].join('\n---\n')).map(
      (document) => document.toJS() as Manifest,
    );
    assert.equal(rendered.length, sources.length);
    for (const source of sources) {
      const crd = rendered.find(({ metadata }) => metadata.name === source.metadata.name);
      assert.equal(crd?.metadata.annotations?.['helm.sh/resource-policy'], 'keep');
      assert.deepEqual(crd?.spec, source.spec);
    }
  });

  it('gives the operator whatever it grants to members and routers, so that granting is no escalation', async () => {
    const place = { namespace: 'shop', keyspace: 'shop', owner: { apiVersion: 'v1', kind: 'X', name: 'x', uid: 'x' } };
    const granted = [
      ...(memberAccess(place).role.rules ?? []),
      ...(routerAccount(place).role.rules ?? []),
    ] as readonly Rule[];
    assert.ok(granted.length >= 2);
    for (const [kind, values] of [
      ['ClusterRole', []],
      ['Role', ['namespaced=true']],
    ] as const) {
      const own = ruleOf(await render('crds.install=false', ...values), kind);
      for (const rule of granted)
        for (const group of rule.apiGroups ?? [])
          for (const resource of rule.resources ?? [])
            for (const verb of rule.verbs)
              assert.ok(
                own.some(
                  (held) =>
                    held.apiGroups?.includes(group) === true &&
                    held.resources?.includes(resource) === true &&
                    held.verbs.includes(verb),
                ),
                `${kind} lacks ${verb} ${resource}.${group}`,
              );
    }
  });

  it('grants no wildcard, no escalation, no impersonation, no exec', async () => {
    for (const { rules = [] } of await render('crds.install=false'))
      for (const rule of rules) {
        const words = [...(rule.apiGroups ?? []), ...(rule.resources ?? []), ...rule.verbs];
        for (const word of ['*', 'escalate', 'bind', 'impersonate', 'pods/exec', 'nodes/proxy'])
          assert.ok(!words.includes(word), word);
      }
  });

  it('labels the operator as the members’ network policies expect it', async () => {
    const deployment = (await render('crds.install=false')).find(({ kind }) => kind === 'Deployment');
    const { labels } = (deployment?.spec?.['template'] as Manifest | undefined)?.metadata ?? {};
    for (const [name, value] of Object.entries(operatorSelector)) assert.equal(labels?.[name], value);
  });

  it('runs its pods as a user without rights, on a file system that it cannot write', async () => {
    for (const { kind, spec } of await render('crds.install=false')) {
      const pod = (
        kind === 'Deployment' ? (spec?.['template'] as Manifest | undefined)?.spec : kind === 'Pod' ? spec : undefined
      ) as
        | { readonly securityContext: object; readonly containers: readonly { readonly securityContext: object }[] }
        | undefined;
      if (pod === undefined) continue;
      assert.deepEqual(pod.securityContext, {
        runAsNonRoot: true,
        runAsUser: 10001,
        runAsGroup: 10001,
        fsGroup: 10001,
        seccompProfile: { type: 'RuntimeDefault' },
      });
      for (const container of pod.containers)
        assert.deepEqual(container.securityContext, {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
    }
  });

  for (const [value, expected] of [
    ['replicas=-1', /replicas/],
    ['replicas=two', /replicas/],
    ['replica=2', /replica/],
    ['logLevel=loud', /logLevel/],
    ['images.programs=UPPER CASE', /images.programs|programs/],
    ['networkPolicy.apiServerPorts={0}', /apiServerPorts/],
    ['imagePullPolicy=Sometimes', /imagePullPolicy/],
    ['serviceAccount.create=false', /serviceAccount.name is needed/],
  ] as const)
    it(`refuses ${value}`, async () => assert.match(await refusal(value), expected));

  it('takes images by tag and by digest, with a registry’s port', async () => {
    for (const image of [
      'meridian/programs:abc',
      'registry.example:5000/meridian/programs:1.0',
      `registry.example/p@sha256:${'0'.repeat(64)}`,
    ])
      await template(`images.programs=${image}`);
  });
});
