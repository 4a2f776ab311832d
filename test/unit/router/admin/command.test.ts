/** The words of the admin database. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readCommand, readCommands } from '#router/admin/command.ts';

const action = (name: string, database?: string) => ({ kind: 'action', action: name, database });

for (const [text, command] of [
  ['SHOW POOLS', { kind: 'show', show: 'pools' }],
  ['  show\n stats_totals  ', { kind: 'show', show: 'stats_totals' }],
  ['SHOW', { kind: 'unknown', text: 'SHOW' }],
  ['SHOW nothing', { kind: 'unknown', text: 'SHOW nothing' }],
  ['show pools please', { kind: 'unknown', text: 'show pools please' }],
  ['PAUSE', action('pause')],
  ['pause shop', action('pause', 'shop')],
  ['RESUME "my ""shop"""', action('resume', 'my "shop"')],
  ['RELOAD', action('reload')],
  ['Reconnect shop_1', action('reconnect', 'shop_1')],
  ['PAUSE a b', { kind: 'unknown', text: 'PAUSE a b' }],
  ["SET application_name = 'x'", { kind: 'set' }],
  ['select 1', { kind: 'unknown', text: 'select 1' }],
  ['', { kind: 'empty' }],
] as const)
  test(`${JSON.stringify(text)} is ${JSON.stringify(command)}`, () => assert.deepEqual(readCommand(text), command));

test('semicolons part commands, and comments are none', () => {
  assert.deepEqual(readCommands('/* a; b */ PAUSE; -- RESUME\n SHOW STATE;;'), [
    action('pause'),
    { kind: 'show', show: 'state' },
  ]);
  assert.deepEqual(readCommands(' ; '), [{ kind: 'empty' }]);
});

test('any text is some command, in time that grows with its length only', () => {
  fc.assert(fc.property(fc.string({ maxLength: 200 }), (text) => readCommands(text).length >= 1));
  const before = process.cpuUsage();
  readCommands(`PAUSE "${'""'.repeat(30_000)}`);
  readCommands('/*'.repeat(30_000));
  assert.ok(process.cpuUsage(before).user < 2_000_000);
});
