/**
 * Joins two sockets until either ends, both ways, with back-pressure: a side that reads slowly holds the other one back
 * and no more than the sockets' own buffers are kept in memory. When one ends or fails, so does the other.
 */
import type { Socket } from 'node:net';

/**
 * A base copy has nobody who notices that the other side is gone without a word (a stream has Postgres' own timeouts): its
 * connections end after this long without a byte. Longer than a checkpoint, for which a copy waits in silence.
 */
export const SILENT_COPY_MS = 120_000;

export interface PipeOptions {
  /** Looks at what goes from `near` to `far`; undefined ends the pipe. */
  readonly filter?: (chunk: Buffer) => Buffer | undefined;
  /** Called for what goes from `far` to `near`. */
  readonly onChunk?: (chunk: Buffer) => void;
}

/** Resolves when both are closed. */
export function join(near: Socket, far: Socket, { filter, onChunk }: PipeOptions = {}): Promise<void> {
  forward(near, far, (chunk) => {
    const passed = filter === undefined ? chunk : filter(chunk);
    if (passed === undefined) near.destroy();
    return passed;
  });
  forward(far, near, (chunk) => {
    onChunk?.(chunk);
    return chunk;
  });
  return Promise.all([closed(near), closed(far)]).then(() => undefined);
}

function forward(from: Socket, to: Socket, take: (chunk: Buffer) => Buffer | undefined): void {
  from.on('data', (chunk: Buffer) => {
    const passed = take(chunk);
    if (passed !== undefined && passed.length > 0 && to.writable && !to.write(passed)) from.pause();
  });
  to.on('drain', () => from.resume());
  from.on('end', () => to.end());
  from.on('error', () => to.destroy());
  // Whatever is left for the other side gets out (end), but a side that doesn't take it isn't waited for.
  from.on('close', () => {
    if (to.writable) to.end();
    setTimeout(() => to.destroy(), LINGER_MS).unref();
  });
  from.resume();
}

const LINGER_MS = 5_000;

const closed = (socket: Socket): Promise<void> =>
  socket.closed ? Promise.resolve() : new Promise((resolve) => socket.once('close', () => resolve()));
