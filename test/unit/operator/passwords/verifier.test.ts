import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { makeVerifier, parseVerifier, verifies } from '#operator/passwords/verifier.ts';

describe('SCRAM-SHA-256 verifiers', () => {
  test('the example of RFC 7677 section 3 gives its server signature and accepts its client proof', async () => {
    const text = await makeVerifier('pencil', {
      salt: Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'),
      iterations: 4096,
    });
    const verifier = parseVerifier(text);
    assert.ok(verifier !== undefined);
    const message =
      'n=user,r=rOprNGfwEbeRWgbNEkqO,' +
      'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,' +
      'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0';
    const signature = createHmac('sha256', verifier.serverKey).update(message).digest('base64');
    assert.equal(signature, '6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=');
    const clientSignature = createHmac('sha256', verifier.storedKey).update(message).digest();
    const proof = Buffer.from('dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=', 'base64');
    const clientKey = Buffer.from(proof.map((byte, at) => byte ^ (clientSignature[at] ?? 0)));
    assert.deepEqual(createHash('sha256').update(clientKey).digest(), verifier.storedKey);
  });

  test('accept their own password and no other', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ minLength: 1, unit: 'grapheme' }),
        fc.string({ minLength: 1, unit: 'grapheme' }),
        fc.uint8Array({ minLength: 8, maxLength: 32 }),
        async (password, other, salt) => {
          const verifier = parseVerifier(await makeVerifier(password, { salt: Buffer.from(salt), iterations: 3 }));
          assert.ok(verifier !== undefined);
          assert.deepEqual(verifier.salt, Buffer.from(salt));
          assert.equal(await verifies(password, verifier), true);
          assert.equal(await verifies(other, verifier), other.normalize('NFKC') === password.normalize('NFKC'));
        },
      ),
      { numRuns: 50 },
    );
  });

  for (const spoilt of [
    '',
    'md5c4ca4238a0b923820dcc509a6f75849b',
    'SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$x:y',
    `SCRAM-SHA-256$9999999:W22ZaJ0SNY7soEsUEjb6gQ==$${'A'.repeat(43)}=:${'A'.repeat(43)}=`,
    `SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$${'A'.repeat(43)}=:${'A'.repeat(43)}=\n`,
  ]) {
    test(`what is not a verifier is refused: ${JSON.stringify(spoilt.slice(0, 40))}`, () => {
      assert.equal(parseVerifier(spoilt), undefined);
    });
  }
});
