/** Clients that are frozen before a primary is shut down: none of them shows what another one's end makes visible. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { insideProgram, startLabContainer } from './lab-container.ts';

const entry = fileURLToPath(new URL('agent-freeze-inside.ts', import.meta.url));

it('a frozen client shows nothing of a commit that its end makes visible, and ends without an answer', async () => {
  const container = await startLabContainer(entry);
  try {
    const { output } = await container.exec(['node', insideProgram]);
    const line = output.split('\n').findLast((text) => text.startsWith('{'));
    assert.ok(line !== undefined, output);
    assert.deepEqual(JSON.parse(line), {
      beforeItsEnd: 0,
      whileFrozen: 'silent',
      afterwards: ['cut', 'cut'],
      waiters: 1,
      wokenEarly: false,
      stopped: ['cut', 'cut'],
    });
  } finally {
    await container.stop({ timeout: 1 });
  }
});
