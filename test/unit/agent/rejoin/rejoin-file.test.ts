import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { forgetRejoin, type RejoinState, readRejoin, writeRejoin } from '#agent/rejoin/rejoin-file.ts';

const parting = { timeline: 1, forkLsn: '0/3000000', endTimeline: 1, lsn: '0/3000148', transactions: 2 };

it('what is noted of a rejoin reads back, and nothing once it is forgotten', async (context) => {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-rejoin-'));
  context.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'rejoin.json');
  assert.equal(await readRejoin(path), undefined);
  const states: RejoinState[] = [
    { stage: 'Recovering', parting, attempts: 0, problem: '' },
    {
      stage: 'Rewinding',
      parting: { ...parting, keptIn: '/kept' },
      checkpoint: '0/3000100',
      ownHistory: '',
      attempts: 1,
      losses: 0,
      problem: '',
    },
    { stage: 'Syncing', parting, bootId: 'a' },
    { stage: 'NeedsCopy', reason: 'because' },
  ];
  for (const state of states) {
    await writeRejoin(path, state);
    assert.deepEqual(await readRejoin(path), state);
  }
  await forgetRejoin(path);
  assert.equal(await readRejoin(path), undefined);
});

it('notes that can not be read say that the data is not to be trusted', async (context) => {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-rejoin-'));
  context.after(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'rejoin.json');
  for (const text of ['', '{', '{"stage":"Rewinding"}', '{"stage":"Another"}']) {
    await writeFile(path, text);
    assert.equal((await readRejoin(path))?.stage, 'NeedsCopy', text);
  }
});
