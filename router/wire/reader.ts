/**
 * Reads the fields of one message. Every read is checked against the message's end: a lying length or a missing
 * terminator is a ProtocolViolation, never a read of the next message.
 */
import { ProtocolViolation } from './protocol-violation.ts';

export class MessageReader {
  readonly #buffer: Buffer;
  readonly #end: number;
  #position: number;

  constructor(buffer: Buffer, position: number, end: number = buffer.length) {
    this.#buffer = buffer;
    this.#position = position;
    this.#end = end;
  }

  get position(): number {
    return this.#position;
  }

  get remaining(): number {
    return this.#end - this.#position;
  }

  byte(): number {
    this.#need(1);
    return this.#buffer[this.#position++] as number;
  }

  int16(): number {
    this.#need(2);
    const value = this.#buffer.readUInt16BE(this.#position);
    this.#position += 2;
    return value;
  }

  int32(): number {
    this.#need(4);
    const value = this.#buffer.readInt32BE(this.#position);
    this.#position += 4;
    return value;
  }

  bytes(count: number): Buffer {
    if (count < 0) throw new ProtocolViolation(`invalid field length ${count}`);
    this.#need(count);
    const value = this.#buffer.subarray(this.#position, this.#position + count);
    this.#position += count;
    return value;
  }

  /** A length and so many bytes; null for the length -1 (NULL). Anything below that is a violation. */
  nullableField(): Buffer | null {
    const length = this.int32();
    if (length === -1) return null;
    return this.bytes(length);
  }

  /** As `bytes`, unread. */
  skip(count: number): void {
    if (count < 0) throw new ProtocolViolation(`invalid field length ${count}`);
    this.#need(count);
    this.#position += count;
  }

  /** As `nullableField`, unread. */
  skipNullableField(): void {
    const length = this.int32();
    if (length !== -1) this.skip(length);
  }

  text(): string {
    const end = this.#buffer.indexOf(0, this.#position);
    if (end === this.#position && end < this.#end) {
      this.#position += 1;
      return '';
    }
    if (end === -1 || end >= this.#end) throw new ProtocolViolation('a string without a terminator');
    const value = this.#buffer.toString('utf8', this.#position, end);
    this.#position = end + 1;
    return value;
  }

  /** @throws ProtocolViolation when bytes are left over. */
  finish(): void {
    if (this.#position !== this.#end) throw new ProtocolViolation(`${this.remaining} bytes too many in a message`);
  }

  #need(count: number): void {
    if (this.#end - this.#position < count) throw new ProtocolViolation('a message shorter than its fields');
  }
}
