/** What is asked of a backend between clients, and when its answers make it clean. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { OwnAnswer } from '#router/pool/expectation.ts';
import { checkoutStatements, cleaningOf, quoteLiteral } from '#router/pool/hygiene.ts';
import { PreparedNames } from '#router/pool/prepared-names.ts';

describe('checkout', () => {
  test('replays settings, resetting those of the session before', () => {
    assert.deepEqual(checkoutStatements('', ''), []);
    assert.deepEqual(checkoutStatements('SET a = 1', 'SET a = 1'), []);
    assert.deepEqual(checkoutStatements('', 'SET a = 1'), ['SET a = 1']);
    assert.deepEqual(checkoutStatements('SET a = 1', ''), ['RESET ALL']);
    assert.deepEqual(checkoutStatements('SET a = 1', 'SET b = 2'), ['RESET ALL', 'SET b = 2']);
  });

  test('quotes what is put into statements', () => {
    assert.equal(quoteLiteral("O'Neil"), "'O''Neil'");
    assert.equal(quoteLiteral('a\\b'), " E'a\\\\b'");
    assert.equal(quoteLiteral("\\'; drop table x; --"), " E'\\\\''; drop table x; --'");
  });
});

describe('cleaning', () => {
  const none = { pin: undefined, isPinTrusted: false, isSuspect: false, wasCancelled: false };
  const answer = (row: (string | null)[], error?: ReadonlyMap<string, string>): OwnAnswer => ({ rows: [row], error });
  const markerOf = (sql: string | undefined): string => /^SELECT '([^']*)'/.exec(sql ?? '')?.[1] ?? '';

  test('is nothing for a backend that served one tenant’s role plainly', () => {
    assert.equal(cleaningOf(none), undefined);
  });

  test('reads the pin back, and any difference is not clean', () => {
    const cleaning = cleaningOf({ ...none, pin: 'acme' });
    assert.ok(cleaning !== undefined);
    const marker = markerOf(cleaning.statements[0]);
    assert.ok(cleaning.isClean([answer([marker, 'acme', ''])]));
    assert.ok(!cleaning.isClean([answer([marker, 'bolt', ''])]));
    assert.ok(!cleaning.isClean([answer([marker, '', ''])]));
    assert.ok(!cleaning.isClean([answer([marker, null, ''])]));
    assert.ok(!cleaning.isClean([answer(['another marker', 'acme', ''])]));
    assert.ok(!cleaning.isClean([answer([marker, 'acme', ''], new Map([['C', '57014']]))]));
    assert.ok(!cleaning.isClean([]));
  });

  test('is nothing under a pin that nothing has run under which could change it, unless it is suspect for something else', () => {
    assert.equal(cleaningOf({ ...none, pin: 'acme', isPinTrusted: true }), undefined);
    assert.ok(cleaningOf({ ...none, pin: 'acme', isPinTrusted: true, isSuspect: true }) !== undefined);
    assert.ok(cleaningOf({ ...none, pin: 'acme', isPinTrusted: true, wasCancelled: true }) !== undefined);
  });

  test('of a suspect discards everything, and each time with another marker', () => {
    const first = cleaningOf({ ...none, isSuspect: true });
    const second = cleaningOf({ ...none, isSuspect: true });
    assert.equal(first?.statements[1], 'DISCARD ALL');
    assert.notEqual(markerOf(first?.statements[0]), markerOf(second?.statements[0]));
  });
});

test('prepared names are bounded, and the least recently used one goes', () => {
  const names = new PreparedNames(2);
  assert.equal(names.add('a'), undefined);
  assert.equal(names.add('b'), undefined);
  assert.ok(names.use('a'));
  assert.equal(names.add('c'), 'b');
  assert.ok(!names.use('b'));
  assert.equal(names.size, 2);
});
