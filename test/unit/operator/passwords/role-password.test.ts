import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  acceptedVerifiers,
  type Ingredients,
  nextPassword,
  publishPrepared,
  type RolePassword,
} from '#operator/passwords/role-password.ts';
import { passwordSecretFields, readRolePassword } from '#operator/passwords/secret-fields.ts';
import { makeVerifier, parseVerifier, verifies } from '#operator/passwords/verifier.ts';

const salt = Buffer.from('0123456789abcdef');
const overlapMs = 1000;

function ingredients(nowMs: number, newPassword = `generated-${nowMs}`): Ingredients {
  return { nowMs, overlapMs, newPassword: () => newPassword, newParameters: () => ({ salt, iterations: 2 }) };
}

async function accepts(state: RolePassword, password: string, atMs: number): Promise<boolean> {
  const { verifier, previous } = acceptedVerifiers(state);
  const texts = [verifier];
  if (previous !== undefined && (previous.untilMs === undefined || previous.untilMs > atMs))
    texts.push(previous.verifier);
  for (const text of texts) {
    const parsed = parseVerifier(text);
    assert.ok(parsed !== undefined);
    if (await verifies(password, parsed)) return true;
  }
  return false;
}

const made = async (password = 'first'): Promise<RolePassword> =>
  (await nextPassword(undefined, '', ingredients(0, password))).state;

describe("a role's password", () => {
  test('is made once and then left alone', async () => {
    const first = await nextPassword(undefined, '', ingredients(0));
    assert.equal(first.step, 'made');
    const again = await nextPassword(first.state, '', ingredients(5, 'another'));
    assert.deepEqual(again, { state: first.state, step: 'unchanged' });
  });

  test('a rotate annotation that was there from the start is no request', async () => {
    const { state } = await nextPassword(undefined, 'now', ingredients(0));
    assert.equal((await nextPassword(state, 'now', ingredients(1))).step, 'unchanged');
  });

  test('a rotation shows applications the present password until the shards accept the new one', async () => {
    const { state, step } = await nextPassword(await made(), 'r1', ingredients(10, 'second'));
    assert.equal(step, 'prepared');
    assert.equal(state.password, 'first');
    assert.ok(await accepts(state, 'first', 1e12));
    assert.ok(await accepts(state, 'second', 11));
    // However often it is looked at, the prepared one stays the same.
    assert.deepEqual(await nextPassword(state, 'r1', ingredients(11, 'third')), { state, step: 'unchanged' });
    assert.deepEqual((await nextPassword(state, 'r2', ingredients(11, 'third'))).state, state);
  });

  test('after publication both are accepted for the overlap, then only the new one', async () => {
    const prepared = (await nextPassword(await made(), 'r1', ingredients(10, 'second'))).state;
    const published = publishPrepared(prepared, 20, overlapMs);
    assert.equal(published.password, 'second');
    assert.equal(published.served, 'r1');
    assert.ok(await accepts(published, 'first', 1019));
    assert.ok(await accepts(published, 'second', 1019));
    assert.equal(await accepts(published, 'first', 1020), false);
    assert.equal((await nextPassword(published, 'r1', ingredients(1019))).step, 'unchanged');
    const ended = await nextPassword(published, 'r1', ingredients(1020));
    assert.equal(ended.step, 'overlap ended');
    assert.equal(await accepts(ended.state, 'first', 0), false);
    assert.equal((await nextPassword(ended.state, 'r1', ingredients(1021))).step, 'unchanged');
  });

  test('a second request while the first is on its way is served after it', async () => {
    const prepared = (await nextPassword(await made(), 'r1', ingredients(10, 'second'))).state;
    const published = publishPrepared(prepared, 20, overlapMs);
    const next = await nextPassword(published, 'r2', ingredients(30, 'third'));
    assert.equal(next.step, 'prepared');
    assert.ok(await accepts(next.state, 'second', 31));
    assert.ok(await accepts(next.state, 'third', 31));
  });

  test('one written into the Secret by hand is adopted, the former accepted for the overlap', async () => {
    const edited = { ...(await made()), password: 'by hand' };
    const { state, step } = await nextPassword(edited, '', ingredients(10));
    assert.equal(step, 'adopted');
    assert.equal(state.password, 'by hand');
    assert.ok(await accepts(state, 'by hand', 11));
    assert.ok(await accepts(state, 'first', 11));
    assert.equal(await accepts(state, 'first', 10 + overlapMs), false);
  });

  test('one that was there before the role is taken over', async () => {
    const { state, step } = await nextPassword({ password: 'chosen', verifier: '', served: '' }, 'r1', ingredients(10));
    assert.equal(step, 'adopted');
    assert.ok(await accepts(state, 'chosen', 11));
    assert.equal((await nextPassword(state, 'r1', ingredients(12))).step, 'unchanged');
  });

  test('one that was emptied is made anew with the same salt, the former accepted for the overlap', async () => {
    const { state, step } = await nextPassword({ ...(await made()), password: '' }, '', ingredients(10, 'second'));
    assert.equal(step, 'remade');
    assert.ok(await accepts(state, 'second', 11));
    assert.ok(await accepts(state, 'first', 11));
  });

  test('any history keeps one salt, accepts what the Secret shows, and survives its Secret', async () => {
    const event = fc.oneof(
      fc.record({ kind: fc.constant('look' as const), laterMs: fc.nat(1500) }),
      fc.record({ kind: fc.constant('request' as const), value: fc.constantFrom('r1', 'r2', 'r3') }),
      fc.record({ kind: fc.constant('publish' as const) }),
      fc.record({ kind: fc.constant('edit' as const), password: fc.constantFrom('x', 'y') }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(event, { maxLength: 12 }), async (events) => {
        let state = await made();
        let request = '';
        let nowMs = 0;
        for (const happening of events) {
          const shownBefore = state.password;
          if (happening.kind === 'look') nowMs += happening.laterMs;
          if (happening.kind === 'request') request = happening.value;
          if (happening.kind === 'edit') state = { ...state, password: happening.password };
          state =
            happening.kind === 'publish'
              ? publishPrepared(state, nowMs, overlapMs)
              : (await nextPassword(state, request, ingredients(nowMs, `p${nowMs}`))).state;
          const reread = readRolePassword(passwordSecretFields(state));
          assert.deepEqual(reread, state);
          assert.ok(await accepts(state, state.password, nowMs));
          if (happening.kind === 'publish') assert.ok(await accepts(state, shownBefore, nowMs));
          for (const text of [state.verifier, state.prepared?.verifier, state.previous?.verifier])
            if (text !== undefined) assert.deepEqual(parseVerifier(text)?.salt, salt);
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe("the password's fields in a Secret", () => {
  test('spoilt fields count as absent', async () => {
    const verifier = await makeVerifier('a', { salt, iterations: 2 });
    const encode = (text: string): string => Buffer.from(text).toString('base64');
    assert.equal(readRolePassword({ data: { username: encode('x') }, annotations: {} }), undefined);
    assert.deepEqual(
      readRolePassword({
        data: {
          password: encode('a'),
          verifier: encode(verifier),
          'previous-verifier': encode('garbage'),
          'previous-until': encode('never'),
          'prepared-password': encode('p'),
        },
        annotations: {},
      }),
      { password: 'a', verifier, served: '' },
    );
  });
});
