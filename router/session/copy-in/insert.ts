/** The SQL and the messages that rows of a COPY become: pure. */
import type { CopySource } from '../../plan/types.ts';
import { quoteLiteral } from '../../pool/hygiene.ts';
import { frontend } from '../../wire/codes.ts';
import { int32, message } from '../../wire/writer.ts';

const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`;

const relation = ({ schema, table }: CopySource): string =>
  schema === undefined ? identifier(table) : `${identifier(schema)}.${identifier(table)}`;

/** The columns that COPY takes where none are named: all but generated ones ("COPY", Parameters). */
export const columnsSql = (source: CopySource): string =>
  `SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = ${quoteLiteral(relation(source))}::pg_catalog.regclass
 AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum`;

/** COPY writes identity columns as they come ("COPY", Notes). Types are those of the columns: Postgres infers them. */
export function insertSql(source: CopySource, columns: readonly string[]): string {
  const names = columns.map(identifier).join(', ');
  const values = columns.map((_name, index) => `$${index + 1}`).join(', ');
  return `INSERT INTO ${relation(source)} (${names}) OVERRIDING SYSTEM VALUE VALUES (${values})`;
}

/** A Bind of the unnamed statement, in one piece. `format`: 0 text, 1 binary. */
export function rowMessage(values: readonly (Buffer | null)[], format: number): Buffer {
  let length = 4 + 1 + 1 + (format === 0 ? 2 : 4) + 2 + 2;
  for (const value of values) length += 4 + (value?.length ?? 0);
  const frame = Buffer.allocUnsafe(1 + length);
  frame[0] = frontend.bind;
  let position = frame.writeUInt32BE(length, 1);
  frame[position++] = 0;
  frame[position++] = 0;
  if (format === 0) position = frame.writeUInt16BE(0, position);
  else {
    position = frame.writeUInt16BE(1, position);
    position = frame.writeUInt16BE(format, position);
  }
  position = frame.writeUInt16BE(values.length, position);
  for (const value of values) {
    position = frame.writeInt32BE(value === null ? -1 : value.length, position);
    if (value !== null) position += value.copy(frame, position);
  }
  frame.writeUInt16BE(0, position);
  return frame;
}

export const executeMessage = message(frontend.execute, '', int32(0));
