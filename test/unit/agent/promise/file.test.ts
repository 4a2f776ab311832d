import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { PromiseFile } from '#agent/promise/file.ts';
import { FILE_BYTES, SLOT_BYTES } from '#agent/promise/record.ts';

describe('the promise file', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-promise-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('is made once, with a random incarnation that stays', async () => {
    const path = join(folder, 'once');
    const first = await PromiseFile.open(path);
    assert.equal(first.found, 'absent');
    assert.match(first.promise.current.incarnation, /^[0-9a-f]{16}$/);
    await first.promise.close();
    const second = await PromiseFile.open(path);
    assert.equal(second.found, 'existing');
    assert.deepEqual(second.promise.current, first.promise.current);
    await second.promise.close();
  });

  it('keeps every update in a file that never grows', async () => {
    const path = join(folder, 'updates');
    const { promise } = await PromiseFile.open(path);
    for (let epoch = 1; epoch <= 5; epoch += 1) {
      await promise.update((current) => ({ ...current, epoch }));
      assert.equal((await stat(path)).size, FILE_BYTES);
      const other = await PromiseFile.open(path);
      assert.equal(other.promise.current.epoch, epoch);
      await other.promise.close();
    }
    await promise.close();
  });

  it('applies concurrent updates one after the other', async () => {
    const { promise } = await PromiseFile.open(join(folder, 'concurrent'));
    await Promise.all(
      Array.from({ length: 20 }, () => promise.update((current) => ({ ...current, sequence: current.sequence + 1 }))),
    );
    assert.equal(promise.current.sequence, 20);
    await promise.close();
  });

  it('falls back to the write before when the last one is damaged', async () => {
    const path = join(folder, 'damaged');
    const { promise } = await PromiseFile.open(path);
    await promise.update((current) => ({ ...current, epoch: 3 }));
    await promise.update((current) => ({ ...current, epoch: 4 }));
    await promise.close();
    const bytes = await readFile(path);
    // Writes 1 and 3 are in the first slot, 2 in the second.
    bytes.fill(0, 0, SLOT_BYTES);
    await writeFile(path, bytes);
    const again = await PromiseFile.open(path);
    assert.equal(again.promise.current.epoch, 3);
    await again.promise.update((current) => ({ ...current, epoch: 9 }));
    await again.promise.close();
    const last = await PromiseFile.open(path);
    assert.equal(last.promise.current.epoch, 9);
    await last.promise.close();
  });

  it('puts a file that says nothing aside and makes a new identity', async () => {
    const path = join(folder, 'nothing');
    await writeFile(path, Buffer.alloc(FILE_BYTES, 1));
    const { promise, found } = await PromiseFile.open(path);
    assert.equal(found, 'unreadable');
    assert.equal(promise.current.epoch, 0);
    assert.equal((await stat(`${path}.unreadable`)).size, FILE_BYTES);
    await promise.close();
  });

  it('renews the identity and keeps what was promised', async () => {
    const { promise } = await PromiseFile.open(join(folder, 'renewed'));
    await promise.update((current) => ({ ...current, epoch: 7, systemIdentifier: '1', grantee: 'a/b' }));
    const before = promise.current.incarnation;
    await promise.renew();
    assert.notEqual(promise.current.incarnation, before);
    assert.equal(promise.current.epoch, 7);
    assert.equal(promise.current.grantee, 'a/b');
    assert.equal(promise.current.systemIdentifier, '');
    await promise.close();
  });
});
