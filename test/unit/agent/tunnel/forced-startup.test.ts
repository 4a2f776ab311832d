import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { forceStartup } from '#agent/tunnel/forced-startup.ts';
import { replicationName } from '#core/identity.ts';
import { tunnelPurposeSchema } from '#core/protocol/tunnel.ts';
import { other } from '../orders/orders-fixture.ts';

const asked = (parameters: Record<string, string>): Map<string, string> => new Map(Object.entries(parameters));

it("a stream gets our user and the member's name, whatever was asked for", () => {
  const wish = asked({
    user: 'postgres',
    replication: 'true',
    application_name: 'another/0000000000000000',
    options: '-c x=y',
  });
  const forced = forceStartup('stream', other, wish);
  assert.ok(forced.kind === 'accepted');
  assert.deepEqual(Object.fromEntries(forced.parameters), {
    user: 'meridian_replication',
    replication: 'true',
    application_name: replicationName(other),
  });
});

it('the slot synchronisation worker gets its database and no replication', () => {
  const forced = forceStartup('slotsync', other, asked({ user: 'x', database: 'shop' }));
  assert.ok(forced.kind === 'accepted');
  assert.equal(forced.parameters.get('database'), 'shop');
  assert.equal(forced.parameters.get('user'), 'meridian_replication');
  assert.equal(forced.parameters.has('replication'), false);
});

it('only a stream gets the name that the synchronous list counts', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...tunnelPurposeSchema.options),
      fc.dictionary(fc.constantFrom('user', 'database', 'application_name', 'replication', 'options'), fc.string()),
      (purpose, wish) => {
        const forced = forceStartup(purpose, other, asked(wish));
        if (forced.kind === 'refused' || purpose === 'stream') return;
        assert.notEqual(forced.parameters.get('application_name'), replicationName(other));
      },
    ),
  );
});

it('a purpose gets no other kind of connection', () => {
  const cases: readonly ['stream' | 'basebackup' | 'slotsync' | 'rewind', Record<string, string>][] = [
    ['rewind', { user: 'x', replication: 'true' }],
    ['stream', { user: 'x' }],
    ['stream', { user: 'x', replication: 'database', database: 'shop' }],
    ['basebackup', { user: 'x', replication: 'false' }],
    ['slotsync', { user: 'x', replication: 'true', database: 'shop' }],
    ['slotsync', { user: 'x' }],
  ];
  for (const [purpose, wish] of cases) assert.equal(forceStartup(purpose, other, asked(wish)).kind, 'refused');
});
