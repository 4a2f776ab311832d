/** How old an answer may be that a decision rests on, whatever the clock on the wall does meanwhile. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import type { KubeApi } from '#kube/client.ts';
import type { Pod } from '#kube/kinds.ts';
import type { KubeObject, Stored } from '#kube/objects.ts';
import { AgentAccess } from '#operator/agents/access.ts';

const keyspace = { metadata: { namespace: 'prod', name: 'shop', uid: 'k' } } as Stored<KubeObject>;
const pod = {
  metadata: { namespace: 'prod', name: 'a-eu-0', uid: 'u', labels: { 'meridian.db/keyspace': 'shop' } },
  status: { phase: 'Running', podIP: '10.0.0.1' },
} as unknown as Pod;

/** Agents that say how often they were asked. */
function counted(): { readonly ask: (maxAgeMs: number) => Promise<string> } {
  const access = new AgentAccess({ kube: {} as KubeApi });
  let asked = 0;
  mock.method(access.credentials, 'of', () => Promise.resolve({ certificate: '', privateKey: '', bundle: '' }));
  mock.method(access.client, 'status', () => Promise.resolve({ kind: 'silent', why: `${(asked += 1)}` }));
  const ask = async (maxAgeMs: number): Promise<string> => {
    const answer = (await access.ask(keyspace, [pod], maxAgeMs)).get('a-eu-0');
    return answer?.kind === 'silent' ? answer.why : '';
  };
  return { ask };
}

test('age 0 asks in any case, also twice within one millisecond, or with the clock put back', async (t) => {
  const { ask } = counted();
  t.mock.method(performance, 'now', () => 1_000);
  let wallMs = Date.parse('2026-01-02T00:00:00Z');
  t.mock.method(Date, 'now', () => wallMs);
  assert.equal(await ask(0), '1');
  assert.equal(await ask(0), '2');
  wallMs -= 3_600_000;
  assert.equal(await ask(0), '3');
});

test('an answer serves until it is too old by a clock that nobody sets', async (t) => {
  const { ask } = counted();
  let nowMs = 1_000;
  let wallMs = Date.parse('2026-01-02T00:00:00Z');
  t.mock.method(performance, 'now', () => nowMs);
  t.mock.method(Date, 'now', () => wallMs);
  assert.equal(await ask(1_500), '1');
  nowMs += 1_000;
  assert.equal(await ask(1_500), '1');
  nowMs += 1_000;
  wallMs -= 3_600_000;
  assert.equal(await ask(1_500), '2');
});
