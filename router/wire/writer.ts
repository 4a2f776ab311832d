/**
 * Builds messages that the router itself says. Answers of a server are never rebuilt: they are passed on as they came.
 * The length written includes itself and not the type byte ("Message Formats").
 */

/** A message of `type` whose body is the given parts, one after the other. */
export function message(type: number, ...parts: readonly (Buffer | string | number)[]): Buffer {
  let bodyBytes = 0;
  const pieces: Buffer[] = [];
  for (const part of parts) {
    const piece = typeof part === 'string' ? cString(part) : typeof part === 'number' ? int32(part) : part;
    pieces.push(piece);
    bodyBytes += piece.length;
  }
  const result = Buffer.allocUnsafe(5 + bodyBytes);
  result[0] = type;
  result.writeUInt32BE(4 + bodyBytes, 1);
  let position = 5;
  for (const piece of pieces) {
    piece.copy(result, position);
    position += piece.length;
  }
  return result;
}

export function int16(value: number): Buffer {
  const result = Buffer.allocUnsafe(2);
  result.writeUInt16BE(value);
  return result;
}

export function int32(value: number): Buffer {
  const result = Buffer.allocUnsafe(4);
  result.writeInt32BE(value | 0);
  return result;
}

export const byte = (value: number): Buffer => Buffer.from([value]);

/** UTF-8 with a terminator. A NUL inside can't be said in the protocol, so it would end the string early: it is refused. */
export function cString(value: string): Buffer {
  if (value.includes('\0')) throw new RangeError('a string with a NUL can not be sent');
  return Buffer.from(`${value}\0`, 'utf8');
}
