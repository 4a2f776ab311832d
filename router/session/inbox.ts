/** Messages of a client that wait for their turn, in order. Says when they are so many that the client shouldn't be read. */

const maxBytes = 1024 * 1024;
/** What each takes besides its bytes, about: the smallest messages are the most. */
const frameBytes = 200;

export class Inbox {
  #frames: Buffer[] = [];
  #head = 0;
  #bytes = 0;

  get isFull(): boolean {
    return this.#bytes > maxBytes;
  }

  /** What all of them take. */
  get weight(): number {
    return this.#bytes;
  }

  push(frame: Buffer): void {
    this.#frames.push(frame);
    this.#bytes += frame.length + frameBytes;
  }

  shift(): Buffer | undefined {
    const frame = this.#frames[this.#head];
    if (frame === undefined) return undefined;
    this.#head += 1;
    this.#bytes -= frame.length + frameBytes;
    if (this.#head === this.#frames.length) {
      this.#frames = [];
      this.#head = 0;
    }
    return frame;
  }

  /** Its turn comes again: it was taken too early. */
  putBack(frame: Buffer): void {
    if (this.#head > 0) this.#frames[--this.#head] = frame;
    else this.#frames.unshift(frame);
    this.#bytes += frame.length + frameBytes;
  }

  clear(): void {
    this.#frames = [];
    this.#head = 0;
    this.#bytes = 0;
  }
}
