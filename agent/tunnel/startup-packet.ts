/**
 * The first packet of a Postgres connection: read by both agents of a tunnel, and made anew by the primary's, which alone
 * decides what user and application name the connection gets. Pure codec; no I/O.
 * Layout (big endian): 0 length i32 (itself included), 4 code i32, then for a start-up: name\0 value\0 ... \0.
 * Source: PostgreSQL documentation, "Message Formats" (StartupMessage, SSLRequest, GSSENCRequest, CancelRequest).
 */

export const PROTOCOL_3_0 = 0x00030000;
const SSL_REQUEST = 80877103;
const GSS_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;
/** Postgres' own bound (MAX_STARTUP_PACKET_LENGTH). */
export const MAX_STARTUP_BYTES = 10_000;
const HEADER_BYTES = 8;

export type StartupRead =
  /** Not all of it has come. */
  | { readonly kind: 'incomplete' }
  /** A request for encryption, to be answered with N; what follows is another first packet. */
  | { readonly kind: 'encryption'; readonly bytes: number }
  | { readonly kind: 'startup'; readonly bytes: number; readonly parameters: ReadonlyMap<string, string> }
  | { readonly kind: 'refused'; readonly reason: string };

export function readStartupPacket(received: Buffer): StartupRead {
  if (received.length < 4) return { kind: 'incomplete' };
  const length = received.readInt32BE(0);
  if (length < HEADER_BYTES || length > MAX_STARTUP_BYTES) {
    return { kind: 'refused', reason: `a first packet of ${length} bytes` };
  }
  if (received.length < length) return { kind: 'incomplete' };
  const code = received.readInt32BE(4);
  if (code === SSL_REQUEST || code === GSS_REQUEST) {
    return length === HEADER_BYTES
      ? { kind: 'encryption', bytes: length }
      : { kind: 'refused', reason: 'a malformed request for encryption' };
  }
  if (code === CANCEL_REQUEST) return { kind: 'refused', reason: 'cancel requests do not pass' };
  if (code >>> 16 !== 3) return { kind: 'refused', reason: `protocol ${code >>> 16}.${code & 0xffff}` };
  const parameters = readParameters(received.subarray(HEADER_BYTES, length));
  return parameters === undefined
    ? { kind: 'refused', reason: 'a malformed list of parameters' }
    : { kind: 'startup', bytes: length, parameters };
}

/** Undefined unless it is pairs of terminated strings and one more zero byte at the very end, each name once. */
function readParameters(list: Buffer): Map<string, string> | undefined {
  const parameters = new Map<string, string>();
  let at = 0;
  while (at < list.length - 1) {
    const nameEnd = list.indexOf(0, at);
    const valueEnd = nameEnd < 0 ? -1 : list.indexOf(0, nameEnd + 1);
    // The last byte is the list's own terminator and can't end a value.
    if (nameEnd === at || valueEnd < 0 || valueEnd >= list.length - 1) return undefined;
    const name = list.toString('utf8', at, nameEnd);
    if (parameters.has(name)) return undefined;
    parameters.set(name, list.toString('utf8', nameEnd + 1, valueEnd));
    at = valueEnd + 1;
  }
  return at === list.length - 1 && list[at] === 0 ? parameters : undefined;
}

/** @throws RangeError when a name or value holds a zero byte, or all of it is too long. */
export function writeStartupPacket(parameters: ReadonlyMap<string, string>): Buffer {
  const pairs: string[] = [];
  for (const [name, value] of parameters) {
    if (name === '' || name.includes('\0') || value.includes('\0')) throw new RangeError('a zero byte in a parameter');
    pairs.push(`${name}\0${value}\0`);
  }
  const list = Buffer.from(`${pairs.join('')}\0`, 'utf8');
  const length = HEADER_BYTES + list.length;
  if (length > MAX_STARTUP_BYTES) throw new RangeError(`a first packet of ${length} bytes`);
  const packet = Buffer.alloc(length);
  packet.writeInt32BE(length, 0);
  packet.writeInt32BE(PROTOCOL_3_0, 4);
  list.copy(packet, HEADER_BYTES);
  return packet;
}

/** An ErrorResponse that ends a connection, for a client that is still starting up. */
export function fatalError(sqlState: string, message: string): Buffer {
  const fields = Buffer.from(`SFATAL\0VFATAL\0C${sqlState}\0M${message.replaceAll('\0', ' ')}\0\0`, 'utf8');
  const packet = Buffer.alloc(5 + fields.length);
  packet.write('E', 0, 'latin1');
  packet.writeInt32BE(4 + fields.length, 1);
  fields.copy(packet, 5);
  return packet;
}
