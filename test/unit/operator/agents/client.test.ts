/** The client of the agents against a real TLS server: who may answer, and what becomes of every kind of answer. */
import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { identityOfSubjectAltName, type PeerIdentity } from '#core/identity.ts';
import type { AuthorityAnswer, Fenced } from '#core/protocol/authority.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';
import { AgentClient, type AgentTarget, type OperatorCredentials } from '#operator/agents/client.ts';
import { makeCa } from '#operator/pki/authority.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';

const now = new Date();
const place = { namespace: 'prod', keyspace: 'shop' };
const ca = await makeCa(place, now);
const issue = (identity: PeerIdentity) => issueCertificate(ca, { identity, dnsNames: [], ipAddresses: [] }, now);

const serverPair = await issue({ kind: 'member', ...place, member: 'a-eu-0' });
const operatorPair = await issue({ kind: 'operator', ...place });
const credentials: OperatorCredentials = { ...operatorPair, bundle: ca.bundle };
const target: AgentTarget = { ...place, member: 'a-eu-0', address: '127.0.0.1' };

const status: AgentStatus = {
  member: { name: 'a-eu-0', incarnation: '0123456789abcdef' },
  region: 'eu',
  phase: 'Waiting',
  problem: '',
  hasData: false,
  standbys: [],
  slots: [],
};

/** What the server says next. */
let answer: { readonly code: number; readonly body: string } | 'nothing' = { code: 200, body: JSON.stringify(status) };
let asked: { peer: PeerIdentity | undefined; body: string } | undefined;
let server: Server;
let client: AgentClient;

before(async () => {
  server = createServer(
    { cert: serverPair.certificate, key: serverPair.privateKey, ca: ca.bundle, requestCert: true },
    (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { subjectaltname } = (request.socket as TLSSocket).getPeerCertificate();
        asked = { peer: identityOfSubjectAltName(subjectaltname), body: Buffer.concat(chunks).toString() };
        if (answer === 'nothing') return;
        response.writeHead(answer.code, { 'content-type': 'application/json' }).end(answer.body);
      });
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  client = new AgentClient({ port: (server.address() as AddressInfo).port });
});

after(async () => {
  await client.close();
  server.closeAllConnections();
  server.close();
});

const orders: Orders = {
  shard: { namespace: 'prod', name: 'a', uid: 'u', keyspace: 'shop', database: 'shop' },
  member: status.member,
  role: 'Initialise',
  epoch: 1,
  leaderTerm: 1,
  sequence: 1,
  generation: 1,
  synchronous: { acknowledgements: 1, members: [] },
  slots: [],
  parameters: {},
  restartNonce: '',
  lease: { members: [], required: 0, kubernetes: false },
  timeline: 1,
  history: [],
  mayRewind: false,
  takeover: false,
};

test('the right member answers, and sees that the operator asks', async () => {
  answer = { code: 200, body: JSON.stringify(status) };
  assert.deepEqual(await client.status(target, credentials), { kind: 'status', status });
  assert.deepEqual(asked?.peer, { kind: 'operator', ...place });
});

const impostors: readonly (readonly [string, Partial<AgentTarget>])[] = [
  ['another member has the address now', { member: 'a-eu-1' }],
  ['it is a member of another keyspace', { keyspace: 'bank' }],
  ['it is a member of another namespace', { namespace: 'test' }],
];
for (const [why, change] of impostors) {
  test(`nobody is believed when ${why}`, async () => {
    asked = undefined;
    const found = await client.status({ ...target, ...change }, credentials);
    assert.equal(found.kind, 'silent');
    assert.match(found.kind === 'silent' ? found.why : '', /is not that of member/);
    assert.equal(asked, undefined, 'not a byte of the request was sent');
  });
}

test('a server whose certificate is of another authority is not believed', async () => {
  const stranger = await makeCa(place, now);
  const found = await client.status(target, { ...credentials, bundle: stranger.bundle });
  assert.equal(found.kind, 'silent');
  assert.equal((await client.status(target, credentials)).kind, 'status', 'and the right bundle works again');
});

const oddAnswers: readonly (readonly [string, typeof answer, RegExp])[] = [
  ['an error', { code: 500, body: '' }, /answered 500/],
  ['no JSON', { code: 200, body: '<html>' }, /JSON/],
  ['JSON of another form', { code: 200, body: '{"member": 1}' }, /not understood/],
  [
    'another name than its certificate has',
    { code: 200, body: JSON.stringify({ ...status, member: { ...status.member, name: 'a-eu-9' } }) },
    /says that it is a-eu-9/,
  ],
  ['two megabytes', { code: 200, body: `"${'x'.repeat(2 << 20)}"` }, /longer than/],
];
for (const [what, given, why] of oddAnswers) {
  test(`a status that is ${what} counts as silence, and says why`, async () => {
    answer = given;
    const found = await client.status(target, credentials);
    assert.match(found.kind === 'silent' ? found.why : '', why);
  });
}

test('orders: taken, refused with the reason, or unknown when no answer comes', async () => {
  answer = { code: 204, body: '' };
  assert.deepEqual(await client.order(target, credentials, orders), { kind: 'taken' });
  assert.deepEqual(JSON.parse(asked?.body ?? ''), orders);
  answer = { code: 409, body: JSON.stringify({ code: 'StaleEpoch', message: 'epoch 2 is promised' }) };
  assert.deepEqual(await client.order(target, credentials, orders), {
    kind: 'refused',
    refusal: { code: 'StaleEpoch', message: 'epoch 2 is promised' },
  });
  answer = 'nothing';
  const late = await client.order(target, credentials, orders);
  assert.equal(late.kind, 'unknown');
  assert.match(late.kind === 'unknown' ? late.why : '', /no answer within 2000 ms/);
});

test('a member that is not there costs no longer than the deadline', async () => {
  const began = performance.now();
  const found = await client.status({ ...target, address: '127.0.0.2' }, credentials);
  assert.equal(found.kind, 'silent');
  assert.ok(performance.now() - began < 8_000);
});

const said: AuthorityAnswer = {
  member: status.member,
  shardUid: 'u',
  region: 'eu',
  version: 3,
  state: 'following',
  promise: { epoch: 2, grantee: 'a-us-0/0123456789abcdef', generation: 1, ageMs: 10 },
  agentAgeMs: 1_000,
};

test('authority: the answer, or why there is none', async () => {
  answer = { code: 200, body: JSON.stringify(said) };
  assert.deepEqual(await client.authority(target, credentials, {}), { kind: 'answer', answer: said });
  assert.equal(asked?.body, '{}');
  for (const [given, why] of [
    [{ code: 503, body: '' }, /answered 503/],
    [{ code: 200, body: '{"version":"x"}' }, /not understood/],
    [{ code: 200, body: JSON.stringify({ ...said, member: { ...said.member, name: 'a-eu-9' } }) }, /says that it is/],
  ] as const) {
    answer = given;
    const found = await client.authority(target, credentials, {});
    assert.match(found.kind === 'silent' ? found.why : '', why);
  }
});

test('authority: whoever is stuck is given up within the time of this client', async () => {
  const { port } = server.address() as AddressInfo;
  const hasty = new AgentClient({ port, timeoutMs: 200 });
  answer = 'nothing';
  const began = performance.now();
  const found = await hasty.authority(target, credentials, {});
  assert.match(found.kind === 'silent' ? found.why : '', /no answer within 200 ms/);
  assert.ok(performance.now() - began < 8_000);
  await hasty.close();
});

test('a fence: promised, refused with the promise, or unknown where no answer or nonsense comes', async () => {
  const question = { shardUid: 'u', member: { ...status.member }, epoch: 3, by: 'op', handover: false };
  const fenced: Fenced = {
    member: status.member,
    epoch: 3,
    position: { timeline: 1, lsn: '0/5000000' },
    problem: '',
    leaseRemainingMs: 1_200,
    stopped: true,
    systemIdentifier: '7',
  };
  answer = { code: 200, body: JSON.stringify(fenced) };
  assert.deepEqual(await client.fence(target, credentials, question, 10_000), { kind: 'fenced', fenced });
  assert.deepEqual(JSON.parse(asked?.body ?? ''), question);
  const refusal = { code: 'Promised', message: 'to another', promise: { epoch: 4, grantee: '', ageMs: 5 } } as const;
  answer = { code: 409, body: JSON.stringify(refusal) };
  assert.deepEqual(await client.fence(target, credentials, question, 10_000), { kind: 'refused', refusal });
  for (const given of ['nothing', { code: 500, body: 'no' }, { code: 200, body: '{"epoch":3}' }] as const) {
    answer = given;
    assert.equal((await client.fence(target, credentials, question, 300)).kind, 'unknown');
  }
});
