/**
 * The first packets of a connection: they have no type byte. Reading and building only; who may send what when is
 * decided in `session/handshake.ts`. Source: "Message Flow", Start-up, SSL Session Encryption; "Message Formats".
 */
import { maxCancelKeyBytes, maxStartupBytes, newestMinorVersion, protocolVersion3, startupCodes } from './codes.ts';
import { ProtocolViolation } from './protocol-violation.ts';
import { MessageReader } from './reader.ts';
import { cString, int32 } from './writer.ts';

export type StartupPacket =
  | { readonly kind: 'ssl' | 'gss' }
  | { readonly kind: 'cancel'; readonly processId: number; readonly secret: Buffer }
  | {
      readonly kind: 'startup';
      readonly minorVersion: number;
      /** In the order sent; a name that comes twice counts the last time, as in Postgres. */
      readonly parameters: ReadonlyMap<string, string>;
      /** Names that begin with `_pq_.`: protocol options, none of which is known here. */
      readonly protocolOptions: readonly string[];
    };

/**
 * How long the packet at the start of `buffer` is; undefined while its length isn't there yet.
 * @throws ProtocolViolation when it is shorter than any packet or longer than Postgres takes.
 */
export function startupPacketBytes(buffer: Buffer): number | undefined {
  if (buffer.length < 4) return undefined;
  const length = buffer.readUInt32BE(0);
  if (length < 8 || length > maxStartupBytes) throw new ProtocolViolation('invalid length of startup packet');
  return length;
}

/** @throws ProtocolViolation for anything but the four known packets. */
export function readStartupPacket(packet: Buffer): StartupPacket {
  const reader = new MessageReader(packet, 4);
  const code = reader.int32();
  if (code === startupCodes.ssl || code === startupCodes.gss) {
    reader.finish();
    return { kind: code === startupCodes.ssl ? 'ssl' : 'gss' };
  }
  if (code === startupCodes.cancel) {
    const processId = reader.int32();
    if (reader.remaining === 0 || reader.remaining > maxCancelKeyBytes)
      throw new ProtocolViolation('invalid length of cancel key');
    return { kind: 'cancel', processId, secret: reader.bytes(reader.remaining) };
  }
  const major = code >>> 16;
  if (major !== 3)
    throw new ProtocolViolation(
      `unsupported frontend protocol ${major}.${code & 0xffff}: server supports 3.0 to 3.${newestMinorVersion}`,
    );
  const parameters = new Map<string, string>();
  const protocolOptions: string[] = [];
  for (;;) {
    const name = reader.text();
    if (name === '') break;
    const value = reader.text();
    if (name.startsWith('_pq_.')) protocolOptions.push(name);
    else parameters.set(name, value);
  }
  reader.finish();
  return { kind: 'startup', minorVersion: code & 0xffff, parameters, protocolOptions };
}

export function startupPacket(parameters: Readonly<Record<string, string>>): Buffer {
  const fields = Object.entries(parameters).flatMap(([name, value]) => [cString(name), cString(value)]);
  const body = Buffer.concat([int32(protocolVersion3), ...fields, Buffer.from([0])]);
  return Buffer.concat([int32(4 + body.length), body]);
}

export const sslRequest = Buffer.concat([int32(8), int32(startupCodes.ssl)]);

/** `secret`: four bytes as a number, or a longer key of protocol 3.2. */
export function cancelRequest(processId: number, secret: number | Buffer): Buffer {
  const key = typeof secret === 'number' ? int32(secret) : secret;
  return Buffer.concat([int32(12 + key.length), int32(startupCodes.cancel), int32(processId), key]);
}

/**
 * The words of the `options` start-up parameter: separated by white space, where a backslash takes the next character as it is.
 * Source: libpq documentation, "options"; pg_split_opts in Postgres.
 */
export function splitOptions(text: string): string[] {
  const words: string[] = [];
  let word = '';
  let inWord = false;
  for (let index = 0; index < text.length; index++) {
    const letter = text[index] as string;
    if (/\s/.test(letter)) {
      if (inWord) words.push(word);
      word = '';
      inWord = false;
      continue;
    }
    inWord = true;
    if (letter === '\\' && index + 1 < text.length) word += text[++index] as string;
    else word += letter;
  }
  if (inWord) words.push(word);
  return words;
}

/**
 * The settings in `options`: `-c name=value`, `-cname=value` and `--name=value`, with `-` in a name read as `_`.
 * @throws RangeError for anything else: other switches of the server are nobody's business here.
 */
export function settingsOfOptions(text: string): [name: string, value: string][] {
  const words = splitOptions(text);
  const settings: [string, string][] = [];
  for (let index = 0; index < words.length; index++) {
    const word = words[index] as string;
    let setting: string | undefined;
    if (word === '-c') setting = words[++index];
    else if (word.startsWith('--')) setting = word.slice(2);
    else if (word.startsWith('-c')) setting = word.slice(2);
    const equals = setting?.indexOf('=') ?? -1;
    if (setting === undefined || equals < 1) throw new RangeError(`invalid command-line argument for server: ${word}`);
    settings.push([setting.slice(0, equals).replaceAll('-', '_'), setting.slice(equals + 1)]);
  }
  return settings;
}
