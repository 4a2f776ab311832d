/**
 * Decodes the body of a watch: one JSON object a line, in chunks that break anywhere, even inside a character.
 * An ERROR event becomes an ApiError (410 Expired mostly): the reader must list again.
 * Source: Kubernetes documentation, "Kubernetes API Concepts", "Efficient detection of changes".
 */
import { ApiError, type ApiErrorBody } from './errors.ts';
import type { KubeObject, Stored } from './objects.ts';

export type WatchEvent<T extends KubeObject> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: Stored<T> }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

/** A line longer than this is no object that the API server could hold (its limit is about 3 MB). */
const maxLineBytes = 16 * 1024 * 1024;

export async function* readWatch<T extends KubeObject>(
  chunks: AsyncIterable<Uint8Array>,
  request: string,
): AsyncGenerator<WatchEvent<T>, void, undefined> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of chunks) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > maxLineBytes)
      throw new ApiError(0, request, { reason: 'Unreadable', message: 'a watch line without end' });
    for (const line of lines) if (line !== '') yield readEvent<T>(line, request);
  }
  if (rest.trim() !== '') yield readEvent<T>(rest, request);
}

function readEvent<T extends KubeObject>(line: string, request: string): WatchEvent<T> {
  const event = parse(line, request);
  switch (event.type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      return { type: event.type, object: event.object as Stored<T> };
    case 'BOOKMARK':
      return { type: 'BOOKMARK', resourceVersion: (event.object as Stored<T>).metadata.resourceVersion };
    case 'ERROR': {
      const status = event.object as ApiErrorBody;
      throw new ApiError(status.code ?? 500, request, status);
    }
    default:
      throw new ApiError(0, request, { reason: 'Unreadable', message: `unknown watch event ${event.type}` });
  }
}

function parse(line: string, request: string): { readonly type: string; readonly object: unknown } {
  try {
    return JSON.parse(line) as { type: string; object: unknown };
  } catch (error) {
    throw new ApiError(0, request, { reason: 'Unreadable', message: 'a broken watch line' }, { cause: error });
  }
}
