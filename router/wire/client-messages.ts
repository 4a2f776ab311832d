/**
 * What clients say after start-up: reading the messages whose content decides where they go, and building those that the
 * router sends to servers itself. Binary layout as in "Message Formats".
 */
import { describeTarget, frontend, headerBytes } from './codes.ts';
import { ProtocolViolation } from './protocol-violation.ts';
import { MessageReader } from './reader.ts';
import { message } from './writer.ts';

export const syncMessage = message(frontend.sync);
export const flushMessage = message(frontend.flush);
export const terminateMessage = message(frontend.terminate);
export const copyFailMessage = (reason: string): Buffer => message(frontend.copyFail, reason);
export const queryMessage = (sql: string): Buffer => message(frontend.query, sql);

export interface ParseMessage {
  readonly name: string;
  readonly sql: string;
  /** What follows the name, as it came: the text and the parameter types. */
  readonly body: Buffer;
}

export function readParse(frame: Buffer): ParseMessage {
  const reader = new MessageReader(frame, headerBytes);
  const name = reader.text();
  const body = frame.subarray(reader.position);
  const sql = reader.text();
  const types = reader.int16();
  reader.bytes(types * 4);
  reader.finish();
  return { name, sql, body };
}

export const parseMessage = (name: string, body: Buffer): Buffer => message(frontend.parse, name, body);

export interface BindMessage {
  readonly portal: string;
  readonly statement: string;
  /** Where the statement's name stands in the frame, without its terminator. */
  readonly statementStart: number;
  readonly statementEnd: number;
  /** Reads the parameter of that index (from 1): its format (0 text, 1 binary) and bytes; undefined where there is none. */
  parameter(index: number): { readonly format: number; readonly value: Buffer | null } | undefined;
}

export function readBind(frame: Buffer): BindMessage {
  const reader = new MessageReader(frame, headerBytes);
  const portal = reader.text();
  const statementStart = reader.position;
  const statement = reader.text();
  const statementEnd = reader.position - 1;
  const formatCount = reader.int16();
  const formatsStart = reader.position;
  reader.skip(formatCount * 2);
  const valueCount = reader.int16();
  const valuesStart = reader.position;
  for (let index = 0; index < valueCount; index++) reader.skipNullableField();
  const resultFormats = reader.int16();
  reader.skip(resultFormats * 2);
  reader.finish();
  if (formatCount > 1 && formatCount !== valueCount)
    throw new ProtocolViolation(`bind message has ${formatCount} parameter formats but ${valueCount} parameters`);
  return {
    portal,
    statement,
    statementStart,
    statementEnd,
    parameter: (index) => {
      if (index < 1 || index > valueCount) return undefined;
      const values = new MessageReader(frame, valuesStart);
      for (let before = 1; before < index; before++) values.skipNullableField();
      const format = formatCount === 1 ? 0 : index - 1;
      return {
        format: format < formatCount ? frame.readUInt16BE(formatsStart + format * 2) : 0,
        value: values.nullableField(),
      };
    },
  };
}

/** The same Bind for a statement of another name; copies the frame once. */
export function renameBind(frame: Buffer, bind: BindMessage, name: string): Buffer {
  return message(
    frontend.bind,
    frame.subarray(headerBytes, bind.statementStart),
    name,
    frame.subarray(bind.statementEnd + 1),
  );
}

/** Describe of the unnamed portal, its execution and a Sync. */
const runPortal = Buffer.concat([
  message(frontend.describe, Buffer.from([describeTarget.portal]), ''),
  message(frontend.execute, '', 0),
  syncMessage,
]);

/** Runs a prepared statement with its values, which are as in a Bind, everything as text: answered as a simple query is, but for BindComplete. */
export function runPrepared(name: string, values: Buffer): Buffer {
  const nameBytes = name.length;
  const bindBytes = 4 + 1 + nameBytes + 1 + 2 + values.length + 2;
  const frame = Buffer.allocUnsafe(1 + bindBytes + runPortal.length);
  frame[0] = frontend.bind;
  frame.writeUInt32BE(bindBytes, 1);
  frame[5] = 0;
  frame.write(name, 6, 'latin1');
  let at = 6 + nameBytes;
  frame[at] = 0;
  frame.writeUInt16BE(0, at + 1);
  at += 3;
  values.copy(frame, at);
  at += values.length;
  frame.writeUInt16BE(0, at);
  runPortal.copy(frame, at + 2);
  return frame;
}

export interface TargetMessage {
  readonly target: 'statement' | 'portal';
  readonly name: string;
}

/** Describe or Close. */
export function readTarget(frame: Buffer): TargetMessage {
  const reader = new MessageReader(frame, headerBytes);
  const letter = reader.byte();
  const name = reader.text();
  reader.finish();
  if (letter === describeTarget.statement) return { target: 'statement', name };
  if (letter === describeTarget.portal) return { target: 'portal', name };
  throw new ProtocolViolation(`invalid describe or close target ${letter}`);
}

export const describeStatement = (name: string): Buffer =>
  message(frontend.describe, Buffer.from([describeTarget.statement]), name);
export const closeStatement = (name: string): Buffer =>
  message(frontend.close, Buffer.from([describeTarget.statement]), name);

export interface ExecuteMessage {
  readonly portal: string;
  readonly maxRows: number;
}

export function readExecute(frame: Buffer): ExecuteMessage {
  const reader = new MessageReader(frame, headerBytes);
  const portal = reader.text();
  const maxRows = reader.int32();
  reader.finish();
  return { portal, maxRows };
}

export function readQuery(frame: Buffer): string {
  const reader = new MessageReader(frame, headerBytes);
  const sql = reader.text();
  reader.finish();
  return sql;
}

/** The number of the function that a function call message is about. */
export const functionCalled = (frame: Buffer): number => new MessageReader(frame, headerBytes).int32();

/**
 * A call of a built-in function without arguments, its result in binary ("Function Call"): no parsing and no planning, which makes it
 * the cheapest thing that can be asked. Built-in functions have the same numbers everywhere (pg_proc.dat).
 */
export function functionCallMessage(oid: number): Buffer {
  const frame = Buffer.alloc(headerBytes + 10);
  frame[0] = frontend.functionCall;
  frame.writeInt32BE(frame.length - 1, 1);
  frame.writeInt32BE(oid, headerBytes);
  frame.writeInt16BE(1, headerBytes + 8);
  return frame;
}
