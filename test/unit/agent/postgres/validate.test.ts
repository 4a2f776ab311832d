/** What comes of a `postgres -C` that doesn't end well; a stand-in for it, since the real one can't be made to be killed. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ProgramError } from '#agent/postgres/programs.ts';
import { fatalReason, validateParameters } from '#agent/postgres/validate.ts';

describe('parameters are validated', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'meridian-validate-'));
    const script = [
      '#!/bin/sh',
      'case "$*" in',
      '  *killed=*) kill -KILL $$ ;;',
      '  *refused=*) echo \'2026-01-01 00:00:00 UTC [1] FATAL:  unrecognized configuration parameter "refused"\' >&2; exit 1 ;;',
      "  *unread=*) echo 'postgres: could not access the server configuration file' >&2; exit 2 ;;",
      'esac',
    ].join('\n');
    await writeFile(join(folder, 'postgres'), `${script}\n`, { mode: 0o755 });
  });
  after(() => rm(folder, { recursive: true, force: true }));
  const validate = (wanted: Record<string, string>) =>
    validateParameters('/nowhere', wanted, { PATH: `${folder}:/usr/bin:/bin` });

  it('and what Postgres refuses is left out, with its reason', async () => {
    assert.deepEqual(await validate({ taken: '1', refused: '1' }), {
      accepted: { taken: '1' },
      problems: ['parameter refused is left out: unrecognized configuration parameter "refused"'],
    });
  });

  it('and nothing is refused because the program was killed or could not do its work: that is to be tried again', async () => {
    await assert.rejects(validate({ killed: '1' }), ProgramError);
    await assert.rejects(validate({ unread: '1' }), ProgramError);
  });

  it('and the reason is the line that is fatal', () => {
    assert.equal(fatalReason('LOG:  a\nx FATAL:  b\nDETAIL:  c\n'), 'b');
    assert.equal(fatalReason('LOG:  a\n'), undefined);
  });
});
