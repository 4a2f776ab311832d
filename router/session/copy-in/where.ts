/** Errors of a COPY as Postgres words them: the fields as they came, with the row's place as context. */
import { backend as code } from '../../wire/codes.ts';
import { byte, message } from '../../wire/writer.ts';
import type { CopyOptions } from './options.ts';
import type { CopyRow } from './rows.ts';

/** Of the ErrorResponse; the position was one in a statement that the client never sent. */
export function errorMessage(fields: ReadonlyMap<string, string>, where?: string): Buffer {
  const kept = new Map(fields);
  for (const letter of ['P', 'p', 'q', 'W']) kept.delete(letter);
  if (!kept.has('S')) kept.set('S', 'ERROR');
  if (!kept.has('V')) kept.set('V', 'ERROR');
  if (where !== undefined) kept.set('W', where);
  const parts = [...kept].flatMap(([letter, text]) => [Buffer.from(letter, 'latin1'), text.replaceAll('\0', '')]);
  return message(code.error, ...parts, byte(0));
}

/** The values of errors are cut off there, as in Postgres. */
const maxShown = 100;

/** As CopyFromErrorCallback says it: the column too, where a value of the row couldn't be read. */
export function contextOf(
  table: string,
  { values, line }: CopyRow,
  columns: readonly string[],
  error: ReadonlyMap<string, string>,
  { format }: CopyOptions,
): string {
  const place = `COPY ${table}, line ${line}`;
  const parameter = /portal parameter \$(\d+)/.exec(error.get('W') ?? '')?.[1];
  const column = parameter === undefined ? undefined : columns[Number(parameter) - 1];
  if (parameter === undefined || column === undefined) return place;
  if (format === 'binary') return `${place}, column ${column}`;
  const value = values[Number(parameter) - 1];
  if (value === undefined || value === null) return `${place}, column ${column}: null input`;
  const text = value.toString('utf8');
  return `${place}, column ${column}: "${text.length > maxShown ? `${text.slice(0, maxShown)}...` : text}"`;
}
