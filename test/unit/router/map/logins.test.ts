/** Who may act for whom, and until when a former password counts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loginOfRow, mayActFor, mayGoOn, reachOf, verifiersAt } from '#router/map/logins.ts';

const key = Buffer.alloc(32, 1).toString('base64');
const verifier = `SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2E=$${key}:${key}`;
const row = { role: 'r', verifiers: [verifier, verifier], anyTenant: false, tenants: ['acme'], formerUntil: null };

test('a role of exactly one tenant is fixed to it; of none, several or any it isn’t', () => {
  assert.equal(loginOfRow(row).fixedTenant, 'acme');
  assert.equal(loginOfRow({ ...row, tenants: [] }).fixedTenant, undefined);
  assert.equal(loginOfRow({ ...row, tenants: ['acme', 'bolt'] }).fixedTenant, undefined);
  assert.equal(loginOfRow({ ...row, anyTenant: true }).fixedTenant, undefined);
});

test('a role acts for its tenants, or for any', () => {
  assert.ok(mayActFor(loginOfRow(row), 'acme'));
  assert.ok(!mayActFor(loginOfRow(row), 'bolt'));
  assert.ok(!mayActFor(loginOfRow({ ...row, tenants: [] }), 'acme'));
  assert.ok(mayActFor(loginOfRow({ ...row, anyTenant: true, tenants: [] }), 'bolt'));
});

test('a session goes on while its role loses nothing and chooses its tenant as before', () => {
  const of = (...tenants: string[]) => loginOfRow({ ...row, tenants });
  const any = loginOfRow({ ...row, anyTenant: true, tenants: [] });
  assert.ok(mayGoOn(of('acme', 'bolt'), of('bolt', 'acme')));
  assert.ok(mayGoOn(of('acme', 'bolt'), of('acme', 'bolt', 'cord')));
  for (const present of [of('cord'), of('acme'), of('acme', 'cord'), of(), any, undefined])
    assert.ok(!mayGoOn(of('acme', 'bolt'), present), reachOf(present));
  assert.ok(!mayGoOn(of('acme'), of('acme', 'bolt')));
  assert.ok(!mayGoOn(any, of('acme', 'bolt')));
  assert.equal(new Set([of('acme'), of('cord'), of('acme', 'cord'), any, of(), undefined].map(reachOf)).size, 6);
});

test('a former password counts until its time, or without end', () => {
  const until = '2026-01-01T00:00:00+00:00';
  const at = Date.parse(until);
  const login = loginOfRow({ ...row, formerUntil: until });
  assert.deepEqual(
    [at - 1, at, at + 1].map((now) => verifiersAt(login, now).length),
    [2, 1, 1],
  );
  assert.equal(verifiersAt(loginOfRow(row), at).length, 2);
});

test('nobody logs in when the time of the role is over', () => {
  const until = '2026-01-01T00:00:00+00:00';
  const at = Date.parse(until);
  const login = loginOfRow({ ...row, until });
  assert.deepEqual(
    [at - 1, at].map((now) => verifiersAt(login, now).length),
    [2, 0],
  );
  assert.equal(verifiersAt(loginOfRow({ ...row, until: null }), at).length, 2);
  assert.equal(verifiersAt(loginOfRow({ ...row, until: '-infinity' }), at).length, 0);
});
