import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { catalogue, faultNamed } from '#test/faults/catalogue.ts';
import { processes } from '#test/faults/fault.ts';
import { faultManifests } from '#test/faults/manifests.ts';
import { appendResult, percentile, readResults, startAnew } from '#test/faults/results.ts';

describe('the catalogue of faults', () => {
  it('has every fault once, by a name that finds it', () => {
    const names = catalogue.map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
    for (const name of names) assert.equal(faultNamed(name).name, name);
    assert.throws(() => faultNamed('none'), /no fault is called none; there are postgres-killed/);
  });
  it('cuts each pair of operator, primary, follower, router and client that speak to each other, both ways', () => {
    const names = new Set(catalogue.map(({ name }) => name));
    const pairs = [
      ['operators', 'primary'],
      ['operators', 'followers'],
      ['primary', 'followers'],
      ['routers', 'primary'],
      ['routers', 'followers'],
      ['clients', 'routers'],
    ];
    for (const [one, other] of pairs) {
      assert.ok(names.has(`${one}-unheard-by-${other}`), `${one} to ${other}`);
      assert.ok(names.has(`${other}-unheard-by-${one}`), `${other} to ${one}`);
    }
  });
});

it('signals for the agent meet the agent only, and those for Postgres Postgres only', () => {
  const init =
    '/usr/local/bin/meridian-init --lock /var/lib/meridian/lock --probes :8422 -- node /opt/meridian/agent.mjs';
  const agent = 'node /opt/meridian/agent.mjs';
  const postmaster = 'postgres -D /var/lib/meridian/pgdata -c config_file=/run/meridian/configuration/postgresql.conf';
  const backend = 'postgres: shop-a-eu-0: shop_app shop 10.244.1.3(41232) idle';
  const met = (pattern: string): string[] =>
    [init, agent, postmaster, backend].filter((line) => new RegExp(pattern).test(line));
  assert.deepEqual(met(processes.agent), [agent]);
  assert.deepEqual(met(processes.postmaster), [postmaster]);
  assert.deepEqual(met(processes.postgres), [postmaster, backend]);
});

it('the manifests hold one shard over three regions with the histories’ tables', () => {
  const objects = parseAllDocuments(faultManifests({ keyspace: 'k', acknowledgements: 1 })).map(
    (each) => each.toJS() as { kind: string; spec: { migrations?: { sql: string }[] } },
  );
  const count = (kind: string): number => objects.filter((each) => each.kind === kind).length;
  assert.deepEqual(['Region', 'Keyspace', 'Shard', 'RegionalReplica', 'Tenant'].map(count), [3, 1, 1, 3, 1]);
  const keyspace = objects.find(({ kind }) => kind === 'Keyspace');
  assert.match(keyspace?.spec.migrations?.[0]?.sql ?? '', /create table set_elements/);
});

it('results are kept line by line, and a run that was broken off finds them again', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'meridian-results-'));
  try {
    const file = join(folder, 'deeper', 'results.jsonl');
    assert.deepEqual(await readResults(file), []);
    await appendResult(file, { fault: 'a', round: 0 });
    await appendResult(file, { fault: 'b', round: 0 });
    assert.deepEqual(await readResults(file), [
      { fault: 'a', round: 0 },
      { fault: 'b', round: 0 },
    ]);
    await startAnew(file);
    await startAnew(file);
    assert.deepEqual(await readResults(file), []);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

it('percentiles are by nearest rank', () => {
  const values = Array.from({ length: 20 }, (_, n) => n + 1);
  assert.deepEqual([percentile(values, 50), percentile(values, 95), percentile(values, 100)], [10, 19, 20]);
  assert.equal(percentile([], 95), undefined);
  assert.equal(percentile([7], 5), 7);
});
