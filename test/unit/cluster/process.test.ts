import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CommandError, lastLines, run, succeeds } from '#cluster/process.ts';

test('a command gives back its standard output, and reads what it is given', async () => {
  assert.equal(await run(['sh', '-c', 'cat; echo noise >&2'], { stdin: 'input' }), 'input');
});

test('a failed command says its exit status and the last lines of what it printed, and keeps all in the log', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'meridian-process-'));
  try {
    const logFile = join(folder, 'deep', 'log');
    const failure = await run(['sh', '-c', 'seq 1 100; echo broken >&2; exit 3'], { logFile }).catch((error) => error);
    assert.ok(failure instanceof CommandError);
    assert.equal(failure.exitCode, 3);
    const lines = failure.message.split('\n');
    assert.match(lines[0] ?? '', /exit status 3/);
    assert.match(lines[0] ?? '', new RegExp(logFile));
    assert.equal(lines.length, 21);
    assert.equal(lines.at(-1), 'broken');
    assert.match(await readFile(logFile, 'utf8'), /^1\n2\n/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a program that is not there is a failed command, not a crash', async () => {
  assert.equal(await succeeds(run, ['meridian-no-such-program']), false);
  await assert.rejects(run(['meridian-no-such-program', 'x']), /meridian-no-such-program x: no such program/);
});

test('a command that takes too long is ended', async () => {
  await assert.rejects(run(['sleep', '30'], { timeoutMs: 50 }), /SIGTERM/);
});

test('the last lines leave out the empty end', () => {
  assert.equal(lastLines('a\nb\nc\n\n', 2), 'b\nc');
});
