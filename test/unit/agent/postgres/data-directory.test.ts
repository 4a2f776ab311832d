import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { DataDirectory } from '#agent/postgres/data-directory.ts';

describe('the state of a data directory', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-data-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));
  const at = (name: string): DataDirectory => new DataDirectory(join(folder, name), {});

  it('is absent without a version, and a standby with the signal file', async () => {
    assert.equal(await at('data').state(), 'absent');
    await mkdir(join(folder, 'data'));
    assert.equal(await at('data').state(), 'absent');
    await writeFile(join(folder, 'data', 'PG_VERSION'), '17\n');
    assert.equal(await at('data').state(), 'primary');
    await writeFile(join(folder, 'data', 'standby.signal'), '');
    assert.equal(await at('data').state(), 'standby');
  });

  it('is absent where the path leads through a file', async () => {
    await writeFile(join(folder, 'file'), '');
    assert.equal(await at('file').state(), 'absent');
  });

  it('is no state at all when it can not be read: an error is not an absence', async () => {
    // Stands for an error of the disk (EIO), which no test can make; a loop of links fails for root, too.
    await symlink(join(folder, 'loop'), join(folder, 'loop'));
    await assert.rejects(at('loop').state(), { code: 'ELOOP' });
  });
});
