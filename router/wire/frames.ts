/**
 * Cuts a stream of chunks into whole protocol messages. Knows type byte and length, nothing of what messages mean.
 * A message that lies whole in one chunk is handed on as a view of it, without a copy; one that spans chunks is put together once.
 * Lengths are unsigned 32-bit numbers and are checked before any arithmetic with them.
 */
import { headerBytes } from './codes.ts';
import { ProtocolViolation } from './protocol-violation.ts';

/** What each part of a message takes besides its bytes, about: one that comes byte by byte has as many. */
const partBytes = 200;

export class FrameSplitter {
  readonly #maxMessageBytes: number;
  #parts: Buffer[] = [];
  #heldBytes = 0;
  /** How many bytes the message in `#parts` needs, or those of a header while its length isn't known. */
  #neededBytes = headerBytes;

  constructor(maxMessageBytes: number) {
    this.#maxMessageBytes = maxMessageBytes;
  }

  /** Bytes of a message that isn't whole yet. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** What those take. */
  get weight(): number {
    return this.#heldBytes + this.#parts.length * partBytes;
  }

  /** Nobody will ask for what is held. */
  clear(): void {
    this.#parts = [];
    this.#heldBytes = 0;
  }

  /**
   * Takes a chunk and calls `onFrame` for each message that is whole now, header included.
   * @throws ProtocolViolation for a length below 4 or above the limit.
   */
  push(chunk: Buffer, onFrame: (type: number, frame: Buffer) => void): void {
    let buffer = chunk;
    if (this.#heldBytes > 0) {
      this.#parts.push(chunk);
      this.#heldBytes += chunk.length;
      if (this.#heldBytes < this.#neededBytes) return;
      buffer = this.takeHeld();
    }
    let position = 0;
    while (buffer.length - position >= headerBytes) {
      const end = position + 1 + this.#lengthAt(buffer, position);
      if (end > buffer.length) break;
      onFrame(buffer[position] as number, buffer.subarray(position, end));
      position = end;
    }
    if (position < buffer.length) this.#hold(buffer.subarray(position));
  }

  /** Hands over what is held and starts afresh; for a stream that changes its meaning (TLS, COPY). */
  takeHeld(): Buffer {
    const held = Buffer.concat(this.#parts, this.#heldBytes);
    this.clear();
    return held;
  }

  #hold(rest: Buffer): void {
    this.#parts.push(rest);
    this.#heldBytes = rest.length;
    this.#neededBytes = rest.length >= headerBytes ? 1 + this.#lengthAt(rest, 0) : headerBytes;
  }

  #lengthAt(buffer: Buffer, position: number): number {
    const length = buffer.readUInt32BE(position + 1);
    if (length < 4 || length > this.#maxMessageBytes)
      throw new ProtocolViolation(`invalid message length ${length} (type ${buffer[position]})`);
    return length;
  }
}
