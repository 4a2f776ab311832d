/** Holds the house in order: which folder may use which, no giant files, no path or host of the machine it was written on. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';

const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { encoding: 'utf8' })
  .split('\n')
  .filter((path) => path !== '' && existsSync(path));
const sources = tracked.filter((path) => path.endsWith('.ts'));

/** What each folder's programs may import from, besides themselves. `core` and `crds` use nothing of ours but words. */
const mayUse: Readonly<Record<string, readonly string[]>> = {
  core: [],
  crds: ['core'],
  kube: ['core', 'crds'],
  clock: [],
  operator: ['core', 'clock', 'crds', 'kube'],
  agent: ['core', 'clock', 'crds', 'kube'],
  router: ['core', 'clock', 'crds', 'kube'],
};

function importsOf(path: string): string[] {
  const text = readFileSync(path, 'utf8');
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'((?:#|\.)[^']+)'/g)].map((match) => {
    const target = match[1] ?? '';
    if (target.startsWith('#')) return target.slice(1);
    return normalize(join(dirname(path), target));
  });
}

test('every folder uses only the folders below it', () => {
  const wrong = sources.flatMap((path) => {
    const folder = path.split('/')[0] ?? '';
    const allowed = mayUse[folder];
    if (allowed === undefined) return [];
    return importsOf(path)
      .filter((target) => {
        const top = target.split('/')[0] ?? '';
        return top !== folder && !allowed.includes(top);
      })
      .map((target) => `${path} imports ${target}`);
  });
  assert.deepEqual(wrong, []);
});

test('core does no I/O and has no clock', () => {
  const wrong = sources
    .filter((path) => path.startsWith('core/'))
    .filter((path) =>
      /from 'node:(?!crypto')|randomBytes|randomUUID|Date\.now\(|Math\.random\(|setTimeout\(/.test(
        readFileSync(path, 'utf8'),
      ),
    );
  assert.deepEqual(wrong, []);
});

test('no source file is longer than 500 lines', () => {
  const long = tracked
    .filter((path) => /\.(ts|mjs|go)$/.test(path) && !/\/(golden|fixtures)\//.test(path))
    .map((path) => ({ path, lines: readFileSync(path, 'utf8').split('\n').length }))
    .filter(({ lines }) => lines > 500);
  assert.deepEqual(long, []);
});

test('every source file opens by saying what it is responsible for', () => {
  // A unit test says it by its path and its names.
  const silent = sources
    .filter((path) => !path.startsWith('test/unit/'))
    .filter((path) => !/^(#!.*\n)?\s*(\/\*\*|\/\/|\/\*)/.test(readFileSync(path, 'utf8')));
  assert.deepEqual(silent, []);
});

test('nothing names the machine that it was written on, or a package registry', () => {
  const forbidden = [
    ['/wo', 'rk/'],
    ['/root', '/'],
    ['registry.npm', 'js'],
    ['proxy.gol', 'ang'],
    ['deb.deb', 'ian'],
  ].map((parts) => parts.join(''));
  const wrong = tracked.filter((path) => {
    if (path.endsWith('.png')) return false;
    const text = readFileSync(path, 'utf8');
    return forbidden.some((word) => text.includes(word));
  });
  assert.deepEqual(wrong, []);
});

test('no file or folder has a name that says nothing', () => {
  const empty = sources.filter(
    (path) =>
      path.split('/').some((part) => /^(utils?|helpers?|common|manager|misc|data)(\.ts)?$/.test(part)) &&
      path !== 'crds/common.ts',
  );
  assert.deepEqual(empty, []);
});
