/**
 * What is on its way to a client: collected while one event is worked through and written at once. Says when the client doesn't
 * take bytes as fast as they come, so that whoever produces them stops reading.
 */
import type { Socket } from 'node:net';

/** Beyond this, pieces are written one by one within a cork instead of being copied together. */
const joinBytes = 32 * 1024;

export class Outbox {
  readonly #socket: Socket;
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  push(bytes: Buffer): void {
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
  }

  get isFull(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** Writes what was collected. False when the client lags: its socket will emit `drain`. */
  flush(): boolean {
    const pieces = this.#pieces;
    if (pieces.length === 0) return !this.#socket.writableNeedDrain;
    this.#pieces = [];
    const bytes = this.#bytes;
    this.#bytes = 0;
    if (!this.#socket.writable) return true;
    const first = pieces[0] as Buffer;
    if (pieces.length === 1) return this.#socket.write(first);
    if (bytes <= joinBytes) return this.#socket.write(Buffer.concat(pieces, bytes));
    this.#socket.cork();
    for (const piece of pieces) this.#socket.write(piece);
    this.#socket.uncork();
    return !this.#socket.writableNeedDrain;
  }
}
