/** SCRAM-SHA-256 as a server: the RFC's own conversation, several verifiers, and an unknown user who can't be told from a known one. */
import assert from 'node:assert/strict';
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { describe, test } from 'node:test';
import { makeVerifier } from '#operator/passwords/verifier.ts';
import { mockVerifier, parseVerifier, ScramConversation, type ScramVerifier } from '#router/wire/scram.ts';

// RFC 7677, section 3: user "user", password "pencil".
const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64');
const clientNonce = 'rOprNGfwEbeRWgbNEkqO';
const serverNonce = '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0';
const clientFirst = `n,,n=user,r=${clientNonce}`;
const proof = 'dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=';
const clientFinal = `c=biws,r=${clientNonce}${serverNonce},p=${proof}`;

const verifierOf = async (password: string): Promise<ScramVerifier> => {
  const verifier = parseVerifier(await makeVerifier(password, { salt, iterations: 4096 }));
  assert.ok(verifier !== undefined);
  return verifier;
};

describe('ScramConversation', () => {
  test('is the one of RFC 7677', async () => {
    const conversation = new ScramConversation([await verifierOf('pencil')], true, serverNonce);
    assert.deepEqual(conversation.first(clientFirst), {
      kind: 'continue',
      message: `r=${clientNonce}${serverNonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`,
    });
    assert.deepEqual(conversation.final(clientFinal), {
      kind: 'final',
      message: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
    });
  });

  test('takes the password of any verifier, and says who it is with that one’s key', async () => {
    const verifiers = [await verifierOf('newer'), await verifierOf('pencil')];
    const conversation = new ScramConversation(verifiers, true, serverNonce);
    conversation.first(clientFirst);
    assert.deepEqual(conversation.final(clientFinal), {
      kind: 'final',
      message: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
    });
  });

  test('refuses another password, and a right one where nobody may come in', async () => {
    for (const [password, mayComeIn] of [
      ['other', true],
      ['pencil', false],
    ] as const) {
      const conversation = new ScramConversation([await verifierOf(password)], mayComeIn, serverNonce);
      conversation.first(clientFirst);
      assert.deepEqual(conversation.final(clientFinal), { kind: 'refused' });
    }
  });

  test('leaves out a verifier of another salt, which no proof could be for', async () => {
    const other = parseVerifier(await makeVerifier('pencil', { salt: Buffer.alloc(16, 1), iterations: 4096 }));
    assert.ok(other !== undefined);
    const conversation = new ScramConversation([other, await verifierOf('pencil')], true, serverNonce);
    conversation.first(clientFirst);
    assert.deepEqual(conversation.final(clientFinal), { kind: 'refused' });
  });

  test('calls malformed what is not SCRAM', async () => {
    const verifier = await verifierOf('pencil');
    for (const wrong of ['', 'x,,n=,r=a', 'p=tls-unique,,n=,r=a', 'n,a=admin,n=,r=a', 'n,,r=a', 'n,,n=,r='])
      assert.equal(new ScramConversation([verifier], true).first(wrong).kind, 'malformed', wrong);
    for (const wrong of [
      '',
      clientFinal.replace('biws', 'eSws'),
      clientFinal.replace(serverNonce, 'another'),
      clientFinal.replace(proof, 'AAAA'),
      clientFinal.replace(`,p=${proof}`, ''),
    ]) {
      const conversation = new ScramConversation([verifier], true, serverNonce);
      conversation.first(clientFirst);
      assert.equal(conversation.final(wrong).kind, 'malformed', wrong);
    }
  });
});

describe('channel binding', () => {
  const digest = Buffer.alloc(32, 0xc1);
  const plus = 'SCRAM-SHA-256-PLUS';
  const password = 'pencil';

  /** A client's conversation that says it is bound to `bound`; what the server makes of it. */
  async function converse(header: string, mechanism: string, offered: Buffer | undefined, bound?: Buffer) {
    const conversation = new ScramConversation([await verifierOf(password)], true, serverNonce, offered);
    const bare = `n=user,r=${clientNonce}`;
    const first = conversation.first(`${header}${bare}`, mechanism);
    if (first.kind !== 'continue') return first;
    const binding = Buffer.concat([Buffer.from(header), bound ?? Buffer.alloc(0)]).toString('base64');
    const withoutProof = `c=${binding},r=${clientNonce}${serverNonce}`;
    const clientKey = hmac(pbkdf2Sync(password, salt, 4096, 32, 'sha256'), 'Client Key');
    const storedKey = createHash('sha256').update(clientKey).digest();
    const signature = hmac(storedKey, `${bare},${first.message},${withoutProof}`);
    const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] as number)));
    return conversation.final(`${withoutProof},p=${proof.toString('base64')}`);
  }
  const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
  const kindOf = async (...from: Parameters<typeof converse>): Promise<string> => (await converse(...from)).kind;

  test('to this server’s certificate is taken, to another’s is not', async () => {
    assert.equal(await kindOf('p=tls-server-end-point,,', plus, digest, digest), 'final');
    assert.equal(await kindOf('p=tls-server-end-point,,', plus, digest, Buffer.alloc(32, 0xc2)), 'unbound');
    assert.equal(await kindOf('p=tls-server-end-point,,', plus, digest), 'unbound');
  });

  test('may be left out, but not by a client that was kept from seeing the offer', async () => {
    assert.equal(await kindOf('n,,', 'SCRAM-SHA-256', digest), 'final');
    assert.equal(await kindOf('y,,', 'SCRAM-SHA-256', digest), 'unbound');
    assert.equal(await kindOf('y,,', 'SCRAM-SHA-256', undefined), 'final');
  });

  test('of another kind, without -PLUS, or where none is offered, is malformed', async () => {
    assert.equal(await kindOf('p=tls-unique,,', plus, digest, digest), 'malformed');
    assert.equal(await kindOf('p=tls-server-end-point,,', 'SCRAM-SHA-256', digest, digest), 'malformed');
    assert.equal(await kindOf('n,,', plus, digest), 'malformed');
    assert.equal(await kindOf('p=tls-server-end-point,,', plus, undefined, digest), 'malformed');
  });
});

test('a mock verifier is the same for a user each time, and another for another', () => {
  const secret = Buffer.alloc(32, 5);
  const salts = ['ann', 'ann', 'bob'].map((user) => mockVerifier(user, secret).salt);
  assert.equal(salts[0], salts[1]);
  assert.notEqual(salts[0], salts[2]);
  assert.equal(Buffer.from(salts[0] ?? '', 'base64').length, salt.length);
});

test('only SCRAM-SHA-256 verifiers with keys of the right length are read', () => {
  for (const wrong of ['', 'md5abc', 'SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA', 'SCRAM-SHA-1$1:a$b:c'])
    assert.equal(parseVerifier(wrong), undefined, wrong);
});
