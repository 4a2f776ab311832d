import assert from 'node:assert/strict';
import { test } from 'node:test';
import { faultCommand, podOf } from '#cluster/fault-commands.ts';
import type { Faults } from '#cluster/faults/faults.ts';

/** What a command line asks of the faults, as [method, ...arguments]. */
async function asked(line: string): Promise<unknown[][]> {
  const calls: unknown[][] = [];
  const faults = new Proxy({} as Faults, {
    get: (_, method) => {
      // A promise that resolves with this object must not take it for a promise.
      if (method === 'then') return undefined;
      return async (...args: unknown[]) => {
        calls.push([method, ...args]);
        return [1];
      };
    },
  });
  const command = faultCommand(async () => ({ faults })).exitOverride();
  for (const sub of command.commands) sub.exitOverride().configureOutput({ writeErr: () => {} });
  await command.parseAsync(line.split(' '), { from: 'user' });
  return calls;
}

const cases: [string, unknown[]][] = [
  ['pause eu', ['pause', 'eu']],
  ['resume eu', ['resume', 'eu']],
  ['kill meridian-us', ['kill', 'meridian-us']],
  ['kill shop/a-eu-0', ['signal', { pod: 'shop/a-eu-0' }, 'KILL']],
  ['kill pod/a-eu-0 --signal TERM', ['signal', { pod: 'a-eu-0', signal: 'TERM' }, 'TERM']],
  [
    'kill pod/a --process ^postgres --container c',
    ['signal', { pod: 'a', process: '^postgres', container: 'c' }, 'KILL'],
  ],
  ['stop shop/a', ['signal', { pod: 'shop/a' }, 'STOP']],
  ['cont shop/a --process x', ['signal', { pod: 'shop/a', process: 'x' }, 'CONT']],
  ['cut eu us', ['cut', 'eu', 'us', { oneWay: false }]],
  ['cut eu api --one-way', ['cut', 'eu', 'api', { oneWay: true }]],
  ['heal eu us', ['heal', 'eu', 'us']],
  ['heal', ['healAll']],
  ['bandwidth us --rate 10mbit', ['limitBandwidth', 'us', '10mbit']],
  ['bandwidth us --off', ['unlimitBandwidth', 'us']],
  ['latency eu us 80', ['addLatency', 'eu', 'us', 80]],
  ['latency eu us --off', ['removeLatency', 'eu', 'us']],
];
for (const [line, call] of cases) {
  test(`\`fault ${line}\` asks for ${String(call[0])}`, async () => assert.deepEqual(await asked(line), [call]));
}

for (const line of ['heal eu', 'bandwidth us', 'latency eu us', 'cut eu', 'pause']) {
  test(`\`fault ${line}\` is refused`, async () => {
    await assert.rejects(asked(line));
  });
}

test('pod/NAME is a pod in the namespace default', () => {
  assert.equal(podOf('pod/a'), 'a');
  assert.equal(podOf('shop/a'), 'shop/a');
});
