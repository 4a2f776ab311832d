import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { buildCommand, type ImageSource, imageKey, tooOld } from '#cluster/docker/image.ts';

let folder = '';
let source: ImageSource;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'meridian-image-'));
  await mkdir(join(folder, 'context'));
  await writeFile(join(folder, 'context', 'program'), 'x');
  await writeFile(join(folder, 'Dockerfile'), 'FROM debian:trixie-slim\n');
  source = { repository: 'meridian/x', dockerfile: join(folder, 'Dockerfile'), context: join(folder, 'context') };
});
after(() => rm(folder, { recursive: true }));

test('the key of an image follows its Dockerfile, context, arguments and base, and nothing else', async () => {
  const key = await imageKey(source, 'sha256:base');
  assert.match(key, /^[0-9a-f]{16}$/);
  assert.equal(await imageKey({ ...source, repository: 'meridian/y' }, 'sha256:base'), key);
  assert.equal(await imageKey({ ...source, arguments: {} }, 'sha256:base'), key);
  const others = [
    await imageKey(source, 'sha256:other'),
    await imageKey({ ...source, arguments: { PG_MAJOR: '17' } }, 'sha256:base'),
    await imageKey({ ...source, arguments: { PG_MAJOR: '18' } }, 'sha256:base'),
  ];
  await writeFile(join(folder, 'Dockerfile'), 'FROM debian:trixie-slim\nUSER 1\n');
  others.push(await imageKey(source, 'sha256:base'));
  await writeFile(join(folder, 'context', 'program'), 'y');
  others.push(await imageKey(source, 'sha256:base'));
  assert.equal(new Set([key, ...others]).size, 6);
});

test('the order in which arguments are written does not matter', async () => {
  assert.equal(
    await imageKey({ ...source, arguments: { A: '1', B: '2' } }, 'b'),
    await imageKey({ ...source, arguments: { B: '2', A: '1' } }, 'b'),
  );
});

test('an image is built with its arguments and the machine network', () => {
  const argv = buildCommand({ repository: 'r', dockerfile: '/d', context: '/c', arguments: { PG_MAJOR: '17' } }, 'r:t');
  assert.equal(argv.join(' '), 'docker build -f /d -t r:t --network host --build-arg PG_MAJOR=17 /c');
});

test('of the builds of a repository the newest six stay; tags that are no keys are not touched', () => {
  const builds = Array.from({ length: 8 }, (_, index) => `meridian/x:${String(index).repeat(16)}`);
  const listing = ['meridian/x:release', ...builds, 'meridian/x:<none>', ''].join('\n');
  assert.deepEqual(tooOld(listing), builds.slice(6));
});
