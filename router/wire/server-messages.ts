/**
 * What the router says to a client as if it were the server: constant messages made once, and builders for the rest;
 * and the reading of those few server messages that the router looks into (errors, notices, statuses, rows of its own queries).
 */
import { backend, headerBytes, transactionStatus } from './codes.ts';
import { MessageReader } from './reader.ts';
import { byte, int16, int32, message } from './writer.ts';

export const authenticationOk = message(backend.authentication, 0);
/** `mechanisms`: the best first. */
export const authenticationSasl = (mechanisms: readonly string[]): Buffer =>
  message(backend.authentication, 10, ...mechanisms, byte(0));
export const authenticationSaslContinue = (text: string): Buffer =>
  message(backend.authentication, 11, Buffer.from(text, 'utf8'));
export const authenticationSaslFinal = (text: string): Buffer =>
  message(backend.authentication, 12, Buffer.from(text, 'utf8'));

export const backendKeyData = (processId: number, secret: Buffer): Buffer =>
  message(backend.backendKeyData, processId, secret);
export const parameterStatus = (name: string, value: string): Buffer => message(backend.parameterStatus, name, value);

/** The version that is spoken from now on (major and minor in one number, as Postgres says it), and the protocol options that aren't known. */
export const negotiateProtocolVersion = (version: number, unknownOptions: readonly string[]): Buffer =>
  message(backend.negotiateProtocolVersion, version, unknownOptions.length, ...unknownOptions);

export const parseComplete = message(backend.parseComplete);
export const bindComplete = message(backend.bindComplete);
export const closeComplete = message(backend.closeComplete);
export const noData = message(backend.noData);
export const emptyQueryResponse = message(backend.emptyQuery);
export const noParameters = message(backend.parameterDescription, int16(0));
export const parameterDescription = (types: readonly number[]): Buffer =>
  message(backend.parameterDescription, int16(types.length), ...types.map(int32));
export const commandComplete = (tag: string): Buffer => message(backend.commandComplete, tag);

const readyIdle = message(backend.readyForQuery, byte(transactionStatus.idle));
const readyOpen = message(backend.readyForQuery, byte(transactionStatus.open));
const readyFailed = message(backend.readyForQuery, byte(transactionStatus.failed));

export function readyForQuery(status: number): Buffer {
  if (status === transactionStatus.idle) return readyIdle;
  return status === transactionStatus.open ? readyOpen : readyFailed;
}

export const textOid = 25;

/** Columns of type text, as `SHOW` answers have them. */
export function textRowDescription(names: readonly string[]): Buffer {
  const columns = names.flatMap((name) => [
    name,
    int32(0),
    int16(0),
    int32(textOid),
    int16(0xffff),
    int32(-1),
    int16(0),
  ]);
  return message(backend.rowDescription, int16(names.length), ...columns);
}

export function textDataRow(values: readonly (string | null)[]): Buffer {
  const fields = values.flatMap((value) => {
    if (value === null) return [int32(-1)];
    const bytes = Buffer.from(value, 'utf8');
    return [int32(bytes.length), bytes];
  });
  return message(backend.dataRow, int16(values.length), ...fields);
}

export interface ErrorFields {
  readonly severity: 'ERROR' | 'FATAL' | 'WARNING' | 'NOTICE';
  readonly sqlstate: string;
  readonly message: string;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
  /** Characters from 1 into the statement. */
  readonly position?: number | undefined;
  readonly routine?: string | undefined;
}

const withoutNul = (text: string): string => text.replaceAll('\0', '');

/** ErrorResponse ("Error and Notice Message Fields"). */
export function errorResponse(fields: ErrorFields): Buffer {
  const parts: (Buffer | string)[] = [];
  const add = (letter: string, value: string | undefined): void => {
    if (value !== undefined) parts.push(Buffer.from(letter, 'latin1'), withoutNul(value));
  };
  add('S', fields.severity);
  add('V', fields.severity);
  add('C', fields.sqlstate);
  add('M', fields.message);
  add('D', fields.detail);
  add('H', fields.hint);
  add('P', fields.position?.toString());
  add('R', fields.routine);
  return message(backend.error, ...parts, byte(0));
}

/** The fields of an ErrorResponse or NoticeResponse whose header begins at `start`, by their letter. */
export function readErrorFields(buffer: Buffer, start: number, end: number): Map<string, string> {
  const reader = new MessageReader(buffer, start + 5, end);
  const fields = new Map<string, string>();
  for (;;) {
    const letter = reader.byte();
    if (letter === 0) return fields;
    fields.set(String.fromCharCode(letter), reader.text());
  }
}

/** Names and types of the columns of a RowDescription. Types of one's own have another number in each database: they count as one. */
export function shapeOf(description: Buffer): string {
  const reader = new MessageReader(description, 5, description.length);
  const columns: string[] = [];
  for (let left = reader.int16(); left > 0; left--) {
    const name = reader.text();
    reader.bytes(6);
    const type = reader.int32() >>> 0;
    reader.bytes(8);
    columns.push(`${name} ${type < firstOwnType ? type : 'own'}`);
  }
  return columns.join('\n');
}

/** Types of a ParameterDescription, in the same way. */
export function parameterTypesText(description: Buffer): string {
  const reader = new MessageReader(description, headerBytes, description.length);
  const types: string[] = [];
  for (let left = reader.int16(); left > 0; left--) {
    const type = reader.int32() >>> 0;
    types.push(type < firstOwnType ? String(type) : 'own');
  }
  return types.join(' ');
}

/** FirstNormalObjectId. */
const firstOwnType = 16_384;

export function readParameterStatus(buffer: Buffer, start: number, end: number): { name: string; value: string } {
  const reader = new MessageReader(buffer, start + 5, end);
  const name = reader.text();
  return { name, value: reader.text() };
}

export interface Notification {
  readonly processId: number;
  readonly channel: string;
  readonly payload: string;
}

export function readNotification(buffer: Buffer, start: number, end: number): Notification {
  const reader = new MessageReader(buffer, start + 5, end);
  const processId = reader.int32();
  const channel = reader.text();
  return { processId, channel, payload: reader.text() };
}

export const notification = ({ processId, channel, payload }: Notification): Buffer =>
  message(backend.notification, processId, channel, payload);

/** The values of a DataRow in text format. */
export function readTextRow(buffer: Buffer, start: number, end: number): (string | null)[] {
  const reader = new MessageReader(buffer, start + 5, end);
  const count = reader.int16();
  const values: (string | null)[] = [];
  for (let index = 0; index < count; index++) values.push(reader.nullableField()?.toString('utf8') ?? null);
  return values;
}
