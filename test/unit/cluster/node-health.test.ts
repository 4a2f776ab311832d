import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nodeProblems, problemsOf } from '#cluster/node-health.ts';
import { CommandError } from '#cluster/process.ts';

const node = (name: string, status: string) => ({
  metadata: { name },
  status: { conditions: [{ type: 'Ready', status, message: 'says the kubelet' }] },
});
const lease = (name: string, renewTime: string) => ({ metadata: { name }, spec: { renewTime } });
const since = new Date('2026-03-01T12:00:00Z');

test('nodes that are all ready have no problem', () => {
  assert.deepEqual(problemsOf([node('a', 'True'), node('b', 'True')], [], 2), []);
});

test('a node that has not registered, is not ready or has not reported is a problem', () => {
  assert.deepEqual(problemsOf([node('a', 'Unknown'), { metadata: { name: 'b' } }], [], 3), [
    '2 of 3 nodes have registered',
    'a: says the kubelet',
    'b: has not reported yet',
  ]);
});

test('after a restart a node counts only once its kubelet has renewed its lease', () => {
  const nodes = [node('a', 'True'), node('b', 'True'), node('c', 'True')];
  const leases = [lease('a', '2026-03-01T12:00:01.5Z'), lease('b', '2026-03-01T11:59:59Z')];
  assert.deepEqual(problemsOf(nodes, leases, 3, since), [
    'b: its kubelet has not been heard of',
    'c: its kubelet has not been heard of',
  ]);
});

test('an API server that does not answer is a problem, not an exception', async () => {
  const problems = await nodeProblems(
    () => Promise.reject(new CommandError(['kubectl'], 1, 'exit status 1', 'refused')),
    1,
  );
  assert.match(problems[0] ?? '', /refused/);
});
