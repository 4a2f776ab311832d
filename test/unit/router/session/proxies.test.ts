import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Proxies } from '#router/session/proxies.ts';

test('proxies are known by address and by range, in either spelling of IPv4', () => {
  const proxies = new Proxies(['10.1.0.0/16', '192.0.2.7', '2001:db8::/32']);
  for (const known of ['10.1.2.3', '::ffff:10.1.2.3', '192.0.2.7', '2001:db8::9']) assert.ok(proxies.has(known), known);
  for (const unknown of ['10.2.0.1', '192.0.2.8', '::ffff:10.2.0.1', '2001:db9::1', '', 'router'])
    assert.ok(!proxies.has(unknown), unknown);
});

test('what is no address and no range is refused by its name', () => {
  for (const wrong of ['balancer', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0/8', '::/129', '10.0.0.0/1.5'])
    assert.throws(
      () => new Proxies([wrong]),
      (error: Error) => error.message.includes(wrong),
      wrong,
    );
});
