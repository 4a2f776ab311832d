/** Who opens and shuts the door at the same time: what lies on disk in the end, and whether somebody may be inside. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { configurationPlaces, type RenderedConfiguration } from '#agent/member/configuration.ts';
import { Door } from '#agent/member/door.ts';

const rendered: RenderedConfiguration = {
  parametersFile: "port = '1'\n",
  userMaps: 'local  a  b\n',
  digest: 'c1',
  problems: [],
};

describe('the door', () => {
  let folder: string;
  let door: Door;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'door-'));
    door = new Door(folder);
    await door.prepare(rendered);
    door.begin();
  });
  afterEach(() => rm(folder, { recursive: true }));

  const isOpenOnDisk = async (): Promise<boolean> =>
    (await readFile(configurationPlaces(folder).access, 'utf8')).includes('hostssl');

  it('is shut, with nobody inside, at a start', async () => {
    assert.deepEqual([await isOpenOnDisk(), door.mayHaveClients], [false, false]);
    await door.write(rendered, 'closed');
    assert.deepEqual([await isOpenOnDisk(), door.mayHaveClients], [false, false]);
  });

  it('may have somebody inside before the open file is there, until it is shown that nobody is', async () => {
    const writing = door.write(rendered, 'open');
    await Promise.resolve();
    assert.deepEqual([await isOpenOnDisk(), door.mayHaveClients], [false, true]);
    await writing;
    assert.equal(await isOpenOnDisk(), true);
    await door.write(rendered, 'closed');
    assert.deepEqual([await isOpenOnDisk(), door.mayHaveClients], [false, true], 'those inside stay');
    door.emptied();
    assert.equal(door.mayHaveClients, false);
  });

  it('may have somebody inside though writing the open file failed', async () => {
    await rm(folder, { recursive: true });
    await writeFile(folder, 'no folder');
    await assert.rejects(door.write(rendered, 'open'));
    assert.equal(door.mayHaveClients, true);
  });

  it('is shut in the end where it is being opened on its way down, and knows that somebody may be inside', async () => {
    const opening = door.write(rendered, 'open');
    await Promise.resolve();
    door.goDown();
    const shutting = door.shut();
    await Promise.all([opening, shutting]);
    assert.deepEqual([await isOpenOnDisk(), door.mayHaveClients], [false, true]);
    assert.deepEqual((await readdir(folder)).toSorted(), ['pg_hba.conf', 'pg_ident.conf', 'postgresql.conf']);
  });

  it('is not opened on its way down, not by whoever was waiting to either', async () => {
    const { promise, resolve: letGo } = Promise.withResolvers<void>();
    const held = door.alone(() => promise);
    const opening = door.write(rendered, 'open');
    door.goDown();
    const shutting = door.shut();
    letGo();
    await held;
    await assert.rejects(opening, /on its way down/);
    await shutting;
    await assert.rejects(door.write(rendered, 'open'), /on its way down/);
    assert.throws(() => door.assertStaysUp(), /on its way down/);
    assert.deepEqual([await isOpenOnDisk(), door.mayHaveClients], [false, false]);
    door.begin();
    await door.write(rendered, 'open');
    assert.deepEqual([await isOpenOnDisk(), door.mayHaveClients], [true, true]);
  });
});
