/**
 * When WAL last came on a stream: messages of XLogData, not the keep-alives that a primary sends which can commit nothing. It
 * walks from header to header, however the bytes come cut, and looks at one byte of each message's body.
 * Source: PostgreSQL documentation, "Message Formats" (CopyData), "Streaming Replication Protocol" (XLogData).
 */

const HEADER_BYTES = 5;
const COPY_DATA = 'd'.charCodeAt(0);
const XLOG_DATA = 'w'.charCodeAt(0);

export class WalHeard {
  /** Of the present message: its header as far as it has come, then what is left of its body. */
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #bodyBytes = 0;
  #isFirst = false;

  /** Whether WAL was in it. */
  push(chunk: Buffer): boolean {
    let heard = false;
    for (let at = 0; at < chunk.length; ) {
      if (this.#bodyBytes > 0) {
        if (this.#isFirst) heard ||= this.#header[0] === COPY_DATA && chunk[at] === XLOG_DATA;
        this.#isFirst = false;
        const taken = Math.min(this.#bodyBytes, chunk.length - at);
        this.#bodyBytes -= taken;
        at += taken;
        continue;
      }
      const taken = Math.min(HEADER_BYTES - this.#headerBytes, chunk.length - at);
      chunk.copy(this.#header, this.#headerBytes, at, at + taken);
      this.#headerBytes += taken;
      at += taken;
      if (this.#headerBytes < HEADER_BYTES) break;
      this.#headerBytes = 0;
      this.#bodyBytes = Math.max(0, this.#header.readInt32BE(1) - 4);
      this.#isFirst = true;
    }
    return heard;
  }
}
