import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { KubernetesAuthority } from '#agent/authority/kubernetes.ts';
import { confirmAuthority, confirmRelease, type ShardAuthority } from '#agent/authority/source.ts';
import type { MemberIdentity } from '#core/identity.ts';
import { makeCa } from '#operator/pki/authority.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';
import { other, self, third } from '../orders/orders-fixture.ts';

const authority = { epoch: 2, member: self.name, incarnation: self.incarnation, state: 'Active' as const };
const shard = (wish: object = {}): ShardAuthority => ({
  metadata: { uid: 'uid' },
  status: { authority: { ...authority, ...wish } },
});
const wanted = { shardUid: 'uid', member: self, epoch: 2 };

describe('the record of authority', () => {
  it('confirms its member at its epoch, also while the shard is being initialised', () => {
    assert.equal(confirmAuthority(shard(), wanted).confirmed, true);
    assert.equal(confirmAuthority(shard({ state: 'Initialising' }), wanted).confirmed, true);
  });
  const others: readonly [string, ShardAuthority | undefined][] = [
    ['no Shard', undefined],
    ['a Shard made anew', { ...shard(), metadata: { uid: 'new' } }],
    ['a Shard without authority', { metadata: { uid: 'uid' } }],
    ['another member', shard({ member: other.name })],
    ['another incarnation of this member', shard({ incarnation: third.incarnation })],
    ['an earlier epoch', shard({ epoch: 1 })],
    ['a later epoch', shard({ epoch: 3 })],
    ['an authority that is being stopped', shard({ state: 'Stopping' })],
  ];
  for (const [what, record] of others) {
    it(`confirms nothing with ${what}`, () => {
      const answer = confirmAuthority(record, wanted);
      assert.ok(!answer.confirmed && answer.reason.length > 0);
    });
  }
});

describe('the API server', () => {
  let folder: string;
  let port: string;
  let answer: { status: number; body: string };
  let asked: { url: string | undefined; authorization: string | undefined };
  let server: ReturnType<typeof createServer>;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-account-'));
    const ca = await makeCa({ namespace: 'test', keyspace: 'shop' }, new Date());
    const identity = { kind: 'router' as const, namespace: 'test', keyspace: 'shop' };
    const pair = await issueCertificate(
      ca,
      { identity, dnsNames: ['localhost'], ipAddresses: ['127.0.0.1'] },
      new Date(),
    );
    server = createServer({ cert: pair.certificate, key: pair.privateKey }, (request, response) => {
      asked = { url: request.url, authorization: request.headers.authorization };
      response.writeHead(answer.status).end(answer.body);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = String((server.address() as AddressInfo).port);
    await writeFile(join(folder, 'ca.crt'), ca.bundle);
    await writeFile(join(folder, 'token'), 'first\n');
  });
  after(async () => {
    server.close();
    await rm(folder, { recursive: true, force: true });
  });
  const source = () => new KubernetesAuthority({ host: '127.0.0.1', port, serviceAccount: folder }, 'test', 'main');

  it('is asked for this Shard with the token as it is now', async () => {
    answer = { status: 200, body: JSON.stringify({ ...shard(), spec: {}, kind: 'Shard' }) };
    assert.equal((await source().read())?.status?.authority?.epoch, 2);
    assert.deepEqual(asked, {
      url: '/apis/meridian.db/v1alpha1/namespaces/test/shards/main',
      authorization: 'Bearer first',
    });
    await writeFile(join(folder, 'token'), 'second');
    await source().read();
    assert.equal(asked.authorization, 'Bearer second');
  });

  it('may say that there is no such Shard; anything else is an error and no answer', async () => {
    answer = { status: 404, body: '{}' };
    assert.equal(await source().read(), undefined);
    answer = { status: 403, body: 'forbidden' };
    await assert.rejects(source().read(), /answers 403: forbidden/);
    answer = { status: 200, body: '{"metadata":{}}' };
    await assert.rejects(source().read());
  });
});

describe('a member may throw its data away', () => {
  const listed = (...members: MemberIdentity[]): ShardAuthority => ({
    metadata: { uid: 'uid' },
    status: { membership: { generation: 3, members } },
  });
  const wanted = { shardUid: 'uid', member: self };
  const cases: readonly [string, ShardAuthority | undefined, boolean][] = [
    ['that the membership does not list', listed(other), true],
    ['of whom it lists another incarnation only', listed({ ...self, incarnation: other.incarnation }), true],
    ['but not one that it lists', listed(other, self), false],
    ['but not without a membership on record', { metadata: { uid: 'uid' }, status: {} }, false],
    ['but not by the record of another Shard', { ...listed(other), metadata: { uid: 'another' } }, false],
    ['but not when there is no Shard', undefined, false],
  ];
  for (const [what, shard, expected] of cases) {
    it(what, () => assert.equal(confirmRelease(shard, wanted).confirmed, expected));
  }
});
