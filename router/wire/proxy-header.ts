/**
 * The header with which a load balancer says for whom it connects: PROXY protocol, versions 1 (a line) and 2 (binary).
 * Reading only; whose header is believed is decided in `session/doorway.ts`. Source: "The PROXY protocol", sections 2.1 and 2.2.
 */
import { isIP } from 'node:net';
import { ProtocolViolation } from './protocol-violation.ts';

export interface ProxyHeader {
  /** Its length: what the client itself says comes behind it. */
  readonly bytes: number;
  /** Undefined where the balancer speaks for itself (LOCAL), or doesn't say for whom (UNKNOWN, or a family without addresses). */
  readonly source: { readonly address: string; readonly port: number } | undefined;
}

const lineStart = Buffer.from('PROXY ');
/** Section 2.1: "a 108-byte buffer is always enough". */
const maxLineBytes = 107;
const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const fixedBytes = 16;
/** Addresses and whatever else a balancer adds (type-length-values); those of the clouds are a few hundred bytes. */
const maxBinaryBytes = 4_096;

/**
 * The header at the start of `buffer`; undefined while it isn't whole.
 * @throws ProtocolViolation when there is none, or it is none of the two.
 */
export function readProxyHeader(buffer: Buffer): ProxyHeader | undefined {
  if (startsLike(buffer, signature)) return buffer.length < fixedBytes ? undefined : readBinary(buffer);
  if (startsLike(buffer, lineStart)) return readLine(buffer);
  throw new ProtocolViolation('expected a PROXY protocol header');
}

/** The buffer and that start agree as far as there are bytes. */
function startsLike(buffer: Buffer, start: Buffer): boolean {
  const length = Math.min(buffer.length, start.length);
  return buffer.compare(start, 0, length, 0, length) === 0;
}

function readLine(buffer: Buffer): ProxyHeader | undefined {
  const end = buffer.subarray(0, maxLineBytes).indexOf('\r\n');
  if (end === -1) {
    if (buffer.length >= maxLineBytes) throw new ProtocolViolation('a PROXY protocol line without an end');
    return undefined;
  }
  const bytes = end + 2;
  const [, family, address = '', , port = '', ...more] = buffer.toString('latin1', 0, end).split(' ');
  if (family === 'UNKNOWN') return { bytes, source: undefined };
  const version = family === 'TCP4' ? 4 : family === 'TCP6' ? 6 : undefined;
  const isPort = /^(0|[1-9][0-9]{0,4})$/;
  if (
    version === undefined ||
    isIP(address) !== version ||
    !isPort.test(port) ||
    Number(port) > 65_535 ||
    more.length !== 1
  )
    throw new ProtocolViolation('invalid PROXY protocol line');
  return { bytes, source: { address, port: Number(port) } };
}

function readBinary(buffer: Buffer): ProxyHeader | undefined {
  const versionAndCommand = buffer[12] as number;
  const familyAndTransport = buffer[13] as number;
  const length = buffer.readUInt16BE(14);
  const command = versionAndCommand & 0x0f;
  if (versionAndCommand >> 4 !== 2 || command > 1) throw new ProtocolViolation('invalid PROXY protocol version');
  if (length > maxBinaryBytes) throw new ProtocolViolation(`PROXY protocol header of ${length} bytes`);
  const bytes = fixedBytes + length;
  if (buffer.length < bytes) return undefined;
  if (command === 0) return { bytes, source: undefined };
  const family = familyAndTransport >> 4;
  const addressBytes = family === 1 ? 4 : family === 2 ? 16 : 0;
  if (addressBytes === 0) return { bytes, source: undefined };
  // Source and destination address, source and destination port.
  if (length < 2 * addressBytes + 4) throw new ProtocolViolation('a PROXY protocol header shorter than its addresses');
  const raw = buffer.subarray(fixedBytes, fixedBytes + addressBytes);
  const address = family === 1 ? raw.join('.') : groupsOf(raw);
  return { bytes, source: { address, port: buffer.readUInt16BE(fixedBytes + 2 * addressBytes) } };
}

const groupsOf = (raw: Buffer): string =>
  Array.from({ length: 8 }, (_, index) => raw.readUInt16BE(2 * index).toString(16)).join(':');
