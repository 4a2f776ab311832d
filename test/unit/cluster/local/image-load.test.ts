import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fullName, missingImages } from '#cluster/local/image-load.ts';

test('names without a registry are written out as containerd writes them', () => {
  assert.equal(fullName('debian:trixie-slim'), 'docker.io/library/debian:trixie-slim');
  assert.equal(fullName('meridian/postgres:1'), 'docker.io/meridian/postgres:1');
  assert.equal(fullName('registry.example/a/b:1'), 'registry.example/a/b:1');
  assert.equal(fullName('localhost:5000/b:1'), 'localhost:5000/b:1');
});

const listing = [
  'REF TYPE DIGEST SIZE PLATFORMS LABELS ',
  'docker.io/meridian/a:1 application/vnd.docker.distribution.manifest.v2+json sha256:m 1 MiB linux/amd64 io.cri-containerd.image=managed,meridian.test/docker-id=sha256:aaa ',
  'docker.io/meridian/b:1 application/vnd.docker.distribution.manifest.v2+json sha256:m 1 MiB linux/amd64 io.cri-containerd.image=managed ',
].join('\n');

const cases: [string, string, string, boolean][] = [
  ['the very image', 'meridian/a:1', 'sha256:aaa', false],
  ['another image under the same name', 'meridian/a:1', 'sha256:bbb', true],
  ['an image of unknown origin', 'meridian/b:1', 'sha256:bbb', true],
  ['a name that only begins the same', 'meridian/a:11', 'sha256:aaa', true],
  ['an image it never had', 'meridian/c:1', 'sha256:ccc', true],
];
for (const [what, tag, id, missing] of cases) {
  test(`a node that has ${what} ${missing ? 'is sent it' : 'is left alone'}`, () => {
    assert.deepEqual(missingImages(new Map([[tag, id]]), listing), missing ? [tag] : []);
  });
}
