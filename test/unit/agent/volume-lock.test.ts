import assert from 'node:assert/strict';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { assertVolumeIsLocked, VolumeLockError } from '#agent/volume-lock.ts';

describe("an agent's volume", () => {
  let folder: string;
  let lock: FileHandle;
  let other: FileHandle;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-lock-'));
    lock = await open(join(folder, 'lock'), 'w');
    other = await open(join(folder, 'other'), 'w');
  });
  after(async () => {
    await lock.close();
    await other.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('is used with its own lock file open', () => {
    assertVolumeIsLocked(folder, { MERIDIAN_VOLUME_LOCK: String(lock.fd) });
  });

  it('is not used without a lock, or with the lock of something else', () => {
    assert.throws(() => assertVolumeIsLocked(folder, {}), VolumeLockError);
    assert.throws(() => assertVolumeIsLocked(folder, { MERIDIAN_VOLUME_LOCK: String(other.fd) }), VolumeLockError);
  });
});
