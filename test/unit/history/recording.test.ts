import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import pg from 'pg';
import { operationsOf, parseEntries, writeEntries } from '#test/history/entry.ts';
import { isNewEnough } from '#test/history/judges/programs.ts';
import { NoAnswerError, outcomeOf } from '#test/history/outcome.ts';
import { Recorder } from '#test/history/recorder.ts';
import { timelineOf } from '#test/history/workload.ts';

function databaseError(code: string, severity = 'ERROR'): pg.DatabaseError {
  const error = new pg.DatabaseError('said by the server', 0, 'error');
  error.code = code;
  error.severity = severity;
  return error;
}

describe('what an error tells a client', () => {
  const cases = [
    { error: databaseError('08007'), sent: true, outcome: 'info' },
    { error: databaseError('40001'), sent: true, outcome: 'fail' },
    { error: databaseError('40001', 'FATAL'), sent: true, outcome: 'fail' },
    { error: databaseError('08006', 'FATAL'), sent: true, outcome: 'fail' },
    { error: databaseError('57P03'), sent: true, outcome: 'fail' },
    { error: databaseError('57P01', 'FATAL'), sent: true, outcome: 'info' },
    { error: databaseError('23505'), sent: true, outcome: 'fail' },
    { error: databaseError('53100', 'PANIC'), sent: true, outcome: 'info' },
    { error: databaseError('XX000'), sent: true, outcome: 'info' },
    { error: new Error('Connection terminated unexpectedly'), sent: true, outcome: 'info' },
    { error: new NoAnswerError('none'), sent: true, outcome: 'info' },
    { error: new Error('Connection terminated unexpectedly'), sent: false, outcome: 'fail' },
    { error: databaseError('57P01', 'FATAL'), sent: false, outcome: 'fail' },
  ] as const;
  for (const { error, sent, outcome } of cases) {
    const what = error instanceof pg.DatabaseError ? `${error.severity} ${error.code}` : error.message;
    it(`${what}, ${sent ? 'after' : 'before'} the commit was sent: ${outcome}`, () => {
      assert.equal(outcomeOf(error, sent), outcome);
    });
  }
});

describe('a recorder', () => {
  it('writes what it was told, in order, with times of one clock', () => {
    const folder = mkdtempSync(join(tmpdir(), 'meridian-recorder-'));
    try {
      let now = 1_000n;
      const file = join(folder, 'deeper', 'set.jsonl');
      const recorder = new Recorder('set', { file, clock: () => (now += 5n), startedAt: 1_000n });
      const process = recorder.newProcess();
      assert.notEqual(recorder.newProcess(), process);
      recorder.invoke({ process, f: 'add', value: 1, door: 'eu' });
      recorder.complete({ process, f: 'add', value: 1, door: 'eu' }, { type: 'ok', value: 1, timeline: 2 });
      recorder.flush();
      recorder.flush();
      const entries = parseEntries(readFileSync(file, 'utf8'));
      assert.deepEqual(entries, recorder.entries);
      assert.deepEqual(
        entries.map(({ index, time, type }) => [index, time, type]),
        [
          [0, 5, 'invoke'],
          [1, 10, 'ok'],
        ],
      );
      assert.equal(writeEntries(entries), readFileSync(file, 'utf8'));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('pairs invocations with completions; what was never answered is unknown and never ends', () => {
    const operations = operationsOf([
      { index: 0, type: 'invoke', process: 0, time: 1, f: 'add', value: 1 },
      { index: 1, type: 'invoke', process: 1, time: 2, f: 'add', value: 2 },
      { index: 2, type: 'ok', process: 0, time: 3, f: 'add', value: 1, timeline: 4 },
    ]);
    assert.deepEqual(
      operations.map(({ invoked, outcome, endedAt, timeline }) => [invoked, outcome, endedAt, timeline]),
      [
        [1, 'ok', 3, 4],
        [2, 'info', Number.POSITIVE_INFINITY, undefined],
      ],
    );
  });

  it('refuses a process that asks twice at once', () => {
    const asked = { type: 'invoke', process: 0, f: 'add', value: 1 } as const;
    assert.throws(
      () =>
        operationsOf([
          { ...asked, index: 0, time: 1 },
          { ...asked, index: 1, time: 2 },
        ]),
      /asks again/,
    );
    assert.throws(() => operationsOf([{ ...asked, type: 'ok', index: 0, time: 1 }]), /without having asked/);
  });
});

it('the timeline of an acknowledgement is read from its WAL file', () => {
  assert.deepEqual(timelineOf([{ wal_file: '0000001A00000000000000C3' }]), { timeline: 26 });
  assert.deepEqual(timelineOf([]), {});
});

it('a cargo that is too old for the judge is told apart from one that will do', () => {
  assert.equal(isNewEnough('cargo 1.95.0 (f2d3ce0bd 2026-03-21)'), true);
  assert.equal(isNewEnough('cargo 1.80.1'), true);
  assert.equal(isNewEnough('cargo 1.66.0'), false);
  assert.equal(isNewEnough(''), false);
});
