/** What a backend is taken to have when a session lets go of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Limits } from '#router/limits/limits.ts';
import { SessionLimits } from '#router/limits/session-limits.ts';
import type { Login } from '#router/map/logins.ts';
import type { ClusterMap } from '#router/map/map.ts';
import type { Backend } from '#router/pool/backend.ts';
import { SessionSettings } from '#router/session/settings.ts';

const limits = new Limits({
  map: () => ({ keyspace: {}, tenants: new Map() }) as unknown as ClusterMap,
  waitMs: 1_000,
  workers: 1,
  now: () => 0,
  onRefused: () => undefined,
});
const login = { role: 'app', fixedTenant: 'acme' } as unknown as Login;
const backendWith = (settings: string): Backend => ({ settings }) as unknown as Backend;

test('the settings that it was given, and what the session has set since', () => {
  const settings = new SessionSettings(new Map(), {});
  const session = new SessionLimits(limits, settings, login);
  const backend = backendWith('');
  session.wanted({}, undefined);
  assert.equal(session.settingsFor({}, backend), '');
  settings.setGeneric('app.word', "set app.word = 'said'");
  settings.commit();
  assert.equal(session.left(backend), "set app.word = 'said'");
});

test('what it was given when it was let go of in doubt, and emptied, says nothing of the next time', () => {
  const settings = new SessionSettings(new Map([['app.word', 'said']]), {});
  const session = new SessionLimits(limits, settings, login);
  const backend = backendWith('');
  session.wanted({}, undefined);
  session.settingsFor({}, backend);
  // Discarded: nobody asked what was left. It comes again, and is let go of before it is given anything.
  session.wanted({}, undefined);
  assert.equal(session.left(backend), '');
});
