/** Decoding of watches, wherever the chunks break. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ApiError } from '#kube/errors.ts';
import { readWatch } from '#kube/watch.ts';

async function* chunked(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (const size of sizes) {
    yield bytes.subarray(at, at + size);
    at += size;
  }
  yield bytes.subarray(at);
}

async function decode(text: string, sizes: readonly number[] = []): Promise<unknown[]> {
  const events: unknown[] = [];
  for await (const event of readWatch(chunked(Buffer.from(text), sizes), 'GET /watch')) events.push(event);
  return events;
}

describe('watch', () => {
  it('gives the same events wherever the chunks break, even inside a character', async () => {
    const objects = ['plain', 'Grüße', '数据库', '🐘 "quoted"\n'].map((name) => ({
      metadata: { name, resourceVersion: '7' },
    }));
    const text = `${objects.map((object) => JSON.stringify({ type: 'ADDED', object })).join('\n')}\n`;
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 60 }), async (sizes) => {
        assert.deepEqual(
          await decode(text, sizes),
          objects.map((object) => ({ type: 'ADDED', object })),
        );
      }),
    );
  });

  it('turns bookmarks into the resourceVersion to go on from', async () => {
    assert.deepEqual(await decode('{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"42"}}}\n'), [
      { type: 'BOOKMARK', resourceVersion: '42' },
    ]);
  });

  it('throws what the server says is wrong', async () => {
    const text = '{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}\n';
    await assert.rejects(
      decode(text),
      (error) => error instanceof ApiError && error.isGone && error.message === 'too old',
    );
  });

  it('throws on a line that is cut off or unknown', async () => {
    await assert.rejects(decode('{"type":"ADDED","obj'), /a broken watch line/);
    await assert.rejects(decode('{"type":"SHOUTED","object":{}}\n'), /unknown watch event SHOUTED/);
  });
});
