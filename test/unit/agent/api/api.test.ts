/** Who may ask the agent what, over real TLS; the member behind it is a stand-in that records. */
import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { Agent } from 'undici';
import { createMetrics } from '#agent/api/metrics.ts';
import { ProbesServer } from '#agent/api/probes.ts';
import { ApiServer } from '#agent/api/server.ts';
import { createLogger } from '#agent/log.ts';
import type { AuthoritySeen } from '#agent/member/authority-facts.ts';
import { statusOf } from '#agent/member/status.ts';
import { neverSeen } from '#agent/postgres/observations.ts';
import { checkCredentials } from '#agent/tls/credentials.ts';
import type { PeerIdentity } from '#core/identity.ts';
import type { AuthorityAnswer, AuthorityQuestion, FenceQuestion } from '#core/protocol/authority.ts';
import type { Orders, OrdersRefusal } from '#core/protocol/orders.ts';
import { type KeyspaceCa, makeCa } from '#operator/pki/authority.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';
import { ordersWith, promiseWith, self } from '../orders/orders-fixture.ts';

const answered: AuthorityAnswer = {
  member: self,
  shardUid: 'uid',
  region: 'eu',
  version: 3,
  state: 'following',
  promise: { epoch: 5, grantee: '', generation: 0, ageMs: 10 },
  agentAgeMs: 100,
};
const place = { namespace: 'test', keyspace: 'shop' };
const status = statusOf({
  member: self,
  region: 'eu',
  phase: 'Waiting',
  problem: '',
  hasData: false,
  promise: promiseWith({ epoch: 5 }),
  orders: undefined,
  appliedAt: undefined,
  server: { state: 'stopped' },
  observation: neverSeen,
  isWalRemoved: false,
  clone: undefined,
  diverged: undefined,
  rejoined: undefined,
  certificateNotAfter: new Date(0),
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe('the API', () => {
  let ca: KeyspaceCa;
  let port: number;
  let api: ApiServer;
  let taken: Orders[];
  let refusal: OrdersRefusal | undefined;
  const heard: AuthorityQuestion[] = [];
  const fences: FenceQuestion[] = [];
  const agents: Agent[] = [];

  const as = async (identity: PeerIdentity, signer = ca): Promise<Agent> => {
    const pair = await issueCertificate(signer, { identity, dnsNames: [], ipAddresses: [] }, new Date());
    const agent = new Agent({
      connect: { cert: pair.certificate, key: pair.privateKey, ca: ca.bundle, checkServerIdentity: () => undefined },
    });
    agents.push(agent);
    return agent;
  };
  const ask = async (agent: Agent, method: 'GET' | 'PUT' | 'POST', path: string, body?: string) => {
    const answer = await agent.request({
      origin: `https://127.0.0.1:${port}`,
      method,
      path,
      ...(body === undefined ? {} : { body }),
    });
    return { status: answer.statusCode, body: (await answer.body.json()) as Record<string, unknown> };
  };

  before(async () => {
    ca = await makeCa(place, new Date());
    const identity = { kind: 'member' as const, member: self.name, ...place };
    const pair = await issueCertificate(ca, { identity, dnsNames: [], ipAddresses: [] }, new Date());
    port = await freePort();
    taken = [];
    api = new ApiServer({
      place,
      credentials: checkCredentials(ca.bundle, pair.certificate, pair.privateKey, self.name),
      status: () => Promise.resolve(status),
      takeOrders: (orders) => {
        taken.push(orders);
        return Promise.resolve(refusal);
      },
      authority: (question) => {
        heard.push(question);
        return Promise.resolve(answered);
      },
      fence: (question) => {
        fences.push(question);
        return Promise.resolve({ kind: 'refused', refusal: { code: 'Busy', message: 'on the way' } });
      },
      log: createLogger('silent', self.name),
    });
    await api.listen(port);
  });
  after(async () => {
    await Promise.all(agents.map((agent) => agent.destroy()));
    await api.stop();
  });

  const everybody: readonly PeerIdentity[] = [
    { kind: 'operator', ...place },
    { kind: 'router', ...place },
    { kind: 'member', member: 'b-0', ...place },
  ];
  for (const identity of everybody) {
    it(`shows the status to a ${identity.kind}`, async () => {
      const answer = await ask(await as(identity), 'GET', '/v1/status');
      assert.equal(answer.status, 200);
      assert.equal(answer.body['phase'], 'Waiting');
    });
  }

  it('says who has authority to anybody of the keyspace, and hears the word of routers alone', async () => {
    const router = { id: '0123456789abcdef', holdsAtEpoch: 4, inFlight: 0 };
    for (const identity of everybody) {
      const agent = await as(identity);
      const plain = await ask(agent, 'POST', '/v1/authority', JSON.stringify({ after: 3, waitMs: 100 }));
      assert.deepEqual([plain.status, plain.body['version']], [200, 3]);
      const spoken = await ask(agent, 'POST', '/v1/authority', JSON.stringify({ router }));
      assert.equal(spoken.status, identity.kind === 'router' ? 200 : 403);
    }
    assert.deepEqual(
      heard.filter((question) => question.router !== undefined),
      [{ router }],
    );
    const tooLong = await ask(await as({ kind: 'operator', ...place }), 'POST', '/v1/authority', '{"waitMs":60000}');
    assert.equal(tooLong.status, 400);
  });

  it('is fenced by the operator alone', async () => {
    const question = { shardUid: 'uid', member: self, epoch: 2, by: 'a test', handover: false };
    for (const identity of everybody) {
      const { status: code, body } = await ask(await as(identity), 'POST', '/v1/fence', JSON.stringify(question));
      assert.deepEqual([code, body['code']], identity.kind === 'operator' ? [409, 'Busy'] : [403, 'Forbidden']);
    }
    assert.deepEqual(fences, [question]);
  });

  it('takes orders from the operator alone', async () => {
    const orders = ordersWith({});
    assert.equal(
      (await ask(await as({ kind: 'operator', ...place }), 'PUT', '/v1/orders', JSON.stringify(orders))).status,
      200,
    );
    assert.deepEqual(taken, [orders]);
    for (const identity of everybody.slice(1)) {
      assert.equal((await ask(await as(identity), 'PUT', '/v1/orders', JSON.stringify(orders))).status, 403);
    }
    assert.equal(taken.length, 1);
  });

  it('passes a refusal on with its code', async () => {
    const operator = await as({ kind: 'operator', ...place });
    refusal = { code: 'StaleEpoch', message: 'too old' };
    const answer = await ask(operator, 'PUT', '/v1/orders', JSON.stringify(ordersWith({})));
    assert.deepEqual([answer.status, answer.body], [409, refusal]);
    refusal = undefined;
  });

  it('says what is wrong with orders that are none', async () => {
    const operator = await as({ kind: 'operator', ...place });
    const answer = await ask(operator, 'PUT', '/v1/orders', JSON.stringify({ ...ordersWith({}), epoch: 0 }));
    assert.equal(answer.status, 400);
    assert.match(String(answer.body['message']), /epoch/);
    assert.equal((await ask(operator, 'PUT', '/v1/orders', 'no JSON')).status, 400);
    assert.equal((await ask(operator, 'PUT', '/v1/orders', 'x'.repeat(300_000))).status, 413);
    assert.equal((await ask(operator, 'POST', '/v1/orders', '{}')).status, 404);
  });

  it('knows nobody of another keyspace or authority', async () => {
    const elsewhere = await as({ kind: 'operator', namespace: 'test', keyspace: 'other' });
    assert.equal((await ask(elsewhere, 'GET', '/v1/status')).status, 403);
    const foreign = await makeCa(place, new Date());
    await assert.rejects(as({ kind: 'operator', ...place }, foreign).then((agent) => ask(agent, 'GET', '/v1/status')));
    const nobody = new Agent({ connect: { ca: ca.bundle, checkServerIdentity: () => undefined } });
    agents.push(nobody);
    await assert.rejects(ask(nobody, 'GET', '/v1/status'));
  });
});

describe('the probes', () => {
  it("answer for the agent's life, the member's readiness, and its numbers", async () => {
    let isReady = false;
    let seen: AuthoritySeen = {
      isHeld: true,
      remainingMs: 2_500,
      losses: 1,
      isArmed: true,
      grants: [
        { from: 'b-0/b', ageMs: 100, remainingMs: 2_800 },
        { from: 'c-0/c', ageMs: 3_000, remainingMs: 0 },
      ],
      grantedRemainingMs: 0,
      confirmedEpoch: 5,
      opening: 'passed',
      fences: 2,
    };
    const metrics = createMetrics({
      labels: { member: self.name },
      status: () => Promise.resolve(status),
      authority: () => Promise.resolve(seen),
      isReady: () => isReady,
      restarts: () => 2,
      tunnels: () => ({ open: 1, sentBytes: 10, receivedBytes: 20 }),
    });
    const probes = new ProbesServer({
      isReady: () => isReady,
      phase: () => 'Cloning',
      metrics: async () => ({ contentType: metrics.contentType, text: await metrics.render() }),
    });
    const port = await freePort();
    await probes.listen(port);
    const get = async (path: string) => {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`);
      return { status: answer.status, text: await answer.text() };
    };
    try {
      assert.equal((await get('/livez')).status, 200);
      assert.deepEqual(await get('/readyz'), { status: 503, text: 'Cloning\n' });
      isReady = true;
      assert.equal((await get('/readyz')).status, 200);
      const { text } = await get('/metrics');
      assert.match(text, /meridian_member_promised_epoch\{member="a-0"\} 5/);
      assert.match(text, /meridian_member_phase\{phase="Waiting",member="a-0"\} 1/);
      assert.match(text, /meridian_member_tunnel_bytes\{direction="received",member="a-0"\} 20/);
      assert.match(text, /meridian_member_ready\{member="a-0"\} 1/);
      for (const line of [
        'lease_held{member="a-0"} 1',
        'lease_remaining_seconds{member="a-0"} 2.5',
        'lease_losses_total{member="a-0"} 1',
        'lease_grant_age_seconds{follower="b-0/b",member="a-0"} 0.1',
        'lease_grant_remaining_seconds{follower="c-0/c",member="a-0"} 0',
        'handle_armed{member="a-0"} 1',
        'confirmed_epoch{member="a-0"} 5',
        'opening_gate{state="passed",member="a-0"} 1',
        'opening_gate{state="waiting",member="a-0"} 0',
        'fences_total{member="a-0"} 2',
      ]) {
        assert.ok(text.includes(`meridian_member_${line}\n`), line);
      }
      // A second reading adds nothing up, and forgets who grants no more.
      seen = { ...seen, isHeld: false, remainingMs: null, grants: seen.grants.slice(1) };
      const again = (await get('/metrics')).text;
      assert.match(again, /meridian_member_fences_total\{member="a-0"\} 2\n/);
      assert.match(again, /meridian_member_lease_remaining_seconds\{member="a-0"\} Nan\n/i);
      assert.doesNotMatch(again, /b-0\/b/);
      assert.equal((await get('/elsewhere')).status, 404);
    } finally {
      await probes.stop();
    }
  });
});
