import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { keepWal, readKept, restoreKept, type ToKeep } from '#agent/rejoin/kept-wal.ts';
import { formatLsn, type Lsn } from '#core/lsn.ts';

const SEGMENT = 1024n * 1024n;

describe('diverged WAL that is put aside', () => {
  let folder: string;
  let walFolder: string;
  let keptFolder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-kept-'));
    walFolder = join(folder, 'pg_wal');
    keptFolder = join(folder, 'kept');
    await mkdir(walFolder);
    for (let segment = 0; segment < 8; segment += 1) {
      const name = `00000001000000000000000${segment}`;
      await writeFile(join(walFolder, name), Buffer.alloc(Number(SEGMENT), segment));
    }
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const wanted = (from: bigint, to: bigint, at: string, maxBytes?: number): ToKeep => ({
    walFolder,
    keptFolder,
    segmentBytes: SEGMENT,
    stretches: [{ timeline: 1, from: from as Lsn, to: to as Lsn }],
    note: {
      member: 'a-0/aaaaaaaaaaaaaaaa',
      at,
      timeline: 1,
      forkLsn: formatLsn(from as Lsn),
      lsn: formatLsn(to as Lsn),
      transactions: 3,
    },
    ...(maxBytes === undefined ? {} : { maxBytes }),
  });
  const bytesKept = async (): Promise<number> => {
    let bytes = 0;
    for (const name of await readdir(keptFolder)) {
      for (const file of await readdir(join(keptFolder, name))) {
        if (file.startsWith('0')) bytes += (await stat(join(keptFolder, name, file))).size;
      }
    }
    return bytes;
  };

  it('is the segments from the fork to the end, with a note', async () => {
    const kept = await keepWal(wanted(2n * SEGMENT + 100n, 4n * SEGMENT + 1n, '2026-01-01'));
    assert.ok(kept);
    assert.deepEqual(await readKept(kept), {
      member: 'a-0/aaaaaaaaaaaaaaaa',
      at: '2026-01-01',
      timeline: 1,
      forkLsn: '0/200064',
      lsn: '0/400001',
      transactions: 3,
      segments: ['000000010000000000000002', '000000010000000000000003', '000000010000000000000004'],
      complete: true,
    });
    assert.equal((await readFile(join(kept, '000000010000000000000003')))[0], 3);
  });

  it('ends with the segment before where the log ends on a boundary', async () => {
    const kept = await keepWal(wanted(2n * SEGMENT, 4n * SEGMENT, '2026-01-01'));
    assert.deepEqual((await readKept(kept ?? ''))?.segments, ['000000010000000000000002', '000000010000000000000003']);
  });

  it('is not made twice, and what was half made goes', async () => {
    const wish = wanted(2n * SEGMENT, 3n * SEGMENT, '2026-01-01');
    const kept = await keepWal(wish);
    assert.ok(kept);
    await mkdir(`${kept}-more.making`);
    await rm(join(walFolder, '000000010000000000000002'));
    assert.equal(await keepWal(wish), kept);
    assert.deepEqual(await readdir(keptFolder), [kept.split('/').at(-1)]);
  });

  it('takes no more than its bound: older ones go first, and the beginning of the newest stays', async () => {
    const bound = Number(3n * SEGMENT);
    const first = await keepWal(wanted(0n, SEGMENT, '2026-01-01', bound));
    const second = await keepWal(wanted(SEGMENT, 2n * SEGMENT, '2026-01-02', bound));
    assert.ok(first && second);
    const third = await keepWal(wanted(2n * SEGMENT, 4n * SEGMENT, '2026-01-03', bound + 1_000));
    assert.equal(await readKept(first), undefined, 'the oldest is still there');
    assert.ok(await readKept(second), 'more went than had to');
    assert.equal((await readKept(third ?? ''))?.complete, true);
    const last = await keepWal(wanted(3n * SEGMENT, 8n * SEGMENT, '2026-01-04', bound));
    assert.deepEqual((await readKept(last ?? ''))?.segments.length, 3);
    assert.equal((await readKept(last ?? ''))?.complete, false);
    assert.ok((await bytesKept()) <= bound);
  });

  it('is put back whole, or not at all', async () => {
    const part = await keepWal(wanted(5n * SEGMENT, 8n * SEGMENT, '2026-01-01', Number(2n * SEGMENT)));
    const kept = await keepWal(wanted(2n * SEGMENT, 4n * SEGMENT, '2026-01-02'));
    assert.ok(kept && part);
    for (const name of await readdir(walFolder)) await rm(join(walFolder, name));
    assert.equal(await restoreKept(part, walFolder), false);
    assert.deepEqual(await readdir(walFolder), []);
    assert.equal(await restoreKept(kept, walFolder), true);
    assert.deepEqual((await readdir(walFolder)).toSorted(), ['000000010000000000000002', '000000010000000000000003']);
  });

  it('is none where there is no room for a single segment', async () => {
    assert.equal(await keepWal(wanted(0n, SEGMENT, '2026-01-01', 1_000)), undefined);
    assert.deepEqual(await readdir(keptFolder), []);
  });
});
