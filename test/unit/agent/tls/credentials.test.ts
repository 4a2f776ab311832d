import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  type Credentials,
  CredentialsError,
  CredentialsWatch,
  checkCredentials,
  postgresTlsFiles,
  writePostgresTls,
} from '#agent/tls/credentials.ts';
import { type KeyspaceCa, makeCa } from '#operator/pki/authority.ts';
import type { KeyPairPem } from '#operator/pki/key-pair.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';

const place = { namespace: 'test', keyspace: 'shop' };

describe("a member's certificate", () => {
  let folder: string;
  let ca: KeyspaceCa;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-tls-'));
    ca = await makeCa(place, new Date());
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const issue = (member: string): Promise<KeyPairPem> =>
    issueCertificate(ca, { identity: { kind: 'member', member, ...place }, dnsNames: [], ipAddresses: [] }, new Date());

  it('is taken with its own key and name only', async () => {
    const [one, two] = [await issue('a-0'), await issue('a-0')];
    assert.equal(checkCredentials(ca.bundle, one.certificate, one.privateKey, 'a-0').identity.kind, 'member');
    assert.throws(() => checkCredentials(ca.bundle, one.certificate, two.privateKey, 'a-0'), CredentialsError);
    assert.throws(() => checkCredentials(ca.bundle, one.certificate, one.privateKey, 'a-1'), CredentialsError);
  });

  it('is read again when the kubelet swaps the folder behind the link, and a half change is not taken', async () => {
    // The layout of a mounted Secret: files are links through ..data, which is replaced at once.
    const mounted = join(folder, 'mounted');
    await mkdir(mounted);
    const put = async (version: string, pair: KeyPairPem, key = pair.privateKey): Promise<void> => {
      await mkdir(join(mounted, version));
      await writeFile(join(mounted, version, 'ca.crt'), ca.bundle);
      await writeFile(join(mounted, version, 'a-0.crt'), pair.certificate);
      await writeFile(join(mounted, version, 'a-0.key'), key);
      await symlink(version, join(mounted, '..data_new'));
      await rename(join(mounted, '..data_new'), join(mounted, '..data'));
    };
    await put('..1', await issue('a-0'));
    for (const name of ['ca.crt', 'a-0.crt', 'a-0.key']) await symlink(join('..data', name), join(mounted, name));

    const problems: string[] = [];
    const seen: Credentials[] = [];
    const watch = await CredentialsWatch.open(mounted, 'a-0', (problem) => problems.push(problem));
    const changed = Promise.withResolvers<void>();
    watch.onChange((credentials) => {
      seen.push(credentials);
      if (seen.length === 1) throw new Error('not now');
      changed.resolve();
    });
    const first = watch.current.fingerprint;
    watch.start(20);
    await put('..2', await issue('a-0'), (await issue('a-0')).privateKey);
    while (problems.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.equal(watch.current.fingerprint, first);
    const renewed = await issue('a-0');
    await put('..3', renewed);
    await changed.promise;
    watch.stop();
    assert.equal(watch.current.certificate, renewed.certificate);
    assert.equal(seen.length, 2, 'a listener that failed is told again');
    assert.equal(problems.length, 2, 'the same problem is told once');
  });

  it('is copied for Postgres with a key that nobody else may read', async () => {
    const pair = await issue('a-0');
    const target = join(folder, 'postgres');
    await writePostgresTls(target, checkCredentials(ca.bundle, pair.certificate, pair.privateKey, 'a-0'));
    assert.equal((await stat(postgresTlsFiles(target).key)).mode & 0o777, 0o600);
  });
});
