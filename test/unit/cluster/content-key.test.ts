import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import * as fc from 'fast-check';
import { keyOf, keyOfFolder } from '#cluster/content-key.ts';

const made: string[] = [];
let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'meridian-key-'));
  made.push(folder);
  await mkdir(join(folder, 'sub'));
  await writeFile(join(folder, 'a'), 'one');
  await writeFile(join(folder, 'sub', 'b'), 'two');
});
after(() => Promise.all(made.map((path) => rm(path, { recursive: true }))));

test('two lists of parts have the same key only when they are the same list', () => {
  const parts = fc.array(fc.string(), { maxLength: 4 });
  fc.assert(
    fc.property(parts, parts, (left, right) => {
      assert.equal(keyOf(left) === keyOf(right), JSON.stringify(left) === JSON.stringify(right));
    }),
  );
  assert.notEqual(keyOf(['ab', 'c']), keyOf(['a', 'bc']));
});

test('times leave the key of a folder as it is', async () => {
  const before = await keyOfFolder(folder);
  await utimes(join(folder, 'a'), new Date(0), new Date(0));
  assert.equal(await keyOfFolder(folder), before);
});

const changes: Record<string, () => Promise<void>> = {
  'another content': () => writeFile(join(folder, 'sub', 'b'), 'three'),
  'another name': () => rename(join(folder, 'a'), join(folder, 'c')),
  'a file more': () => writeFile(join(folder, 'd'), ''),
  'a file that became a program': () => chmod(join(folder, 'a'), 0o755),
};
for (const [what, change] of Object.entries(changes)) {
  test(`${what} gives a folder another key`, async () => {
    const before = await keyOfFolder(folder);
    await change();
    assert.notEqual(await keyOfFolder(folder), before);
  });
}
