/** The router's certificate when it is renewed. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type KeyspaceCa, makeCa } from '#operator/pki/authority.ts';
import { issueCertificate } from '#operator/pki/leaf.ts';
import { TlsFiles } from '#router/tls.ts';

const owner = { namespace: 'test', keyspace: 'shop' };

async function write(folder: string, ca: KeyspaceCa): Promise<void> {
  const leaf = await issueCertificate(
    ca,
    { identity: { kind: 'router', ...owner }, dnsNames: [], ipAddresses: [] },
    new Date(),
  );
  await writeFile(join(folder, 'tls.key'), leaf.privateKey);
  await writeFile(join(folder, 'ca.crt'), ca.bundle);
  await writeFile(join(folder, 'tls.crt'), leaf.certificate);
}

test('a renewed certificate is taken, and what mock verifiers are made from stays the same', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-tls-'));
  const aborter = new AbortController();
  try {
    const ca = await makeCa(owner, new Date());
    await write(folder, ca);
    const files = new TlsFiles(folder, 20);
    const reloaded = Promise.withResolvers<Error | undefined>();
    await files.start((error) => {
      if (error === undefined) reloaded.resolve(undefined);
    }, aborter.signal);
    const before = files.contexts;
    // Its files are looked at by their times, which may be as coarse as a tick of the clock.
    const isReloaded = reloaded.promise.then(() => true);
    do await write(folder, ca);
    while (!(await Promise.race([isReloaded, sleep(100, false)])));
    assert.notEqual(files.contexts.server, before.server);
    assert.deepEqual(files.contexts.mockSecret, before.mockSecret);
  } finally {
    aborter.abort();
    await rm(folder, { recursive: true, force: true });
  }
});
