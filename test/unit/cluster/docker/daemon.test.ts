import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isInstalled, missingPrograms } from '#cluster/docker/daemon.ts';

test('what is missing is said together with the command that installs it', () => {
  assert.equal(
    missingPrograms(['docker', 'debootstrap'], ['docker.io', 'debootstrap']),
    'not installed here: docker, debootstrap. On Debian or Ubuntu: sudo apt-get install docker.io debootstrap',
  );
});

test('a program is found on the PATH or in the sbin folders, and nowhere else', () => {
  assert.equal(isInstalled('sh'), true);
  assert.equal(isInstalled('meridian-no-such-program'), false);
  assert.equal(isInstalled(''), false);
});
