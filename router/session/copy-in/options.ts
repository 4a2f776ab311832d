/** The options of COPY ... FROM STDIN that the router understands: pure. Source: PostgreSQL documentation, "COPY". */
import { RouterError } from '../../errors.ts';
import type { CopySource } from '../../plan/types.ts';

export interface CopyOptions {
  readonly format: 'text' | 'csv' | 'binary';
  /** Bytes. */
  readonly delimiter: number;
  readonly quote: number;
  readonly escape: number;
  /** What stands for NULL, as it comes in. */
  readonly nullText: Buffer;
  readonly header: 'none' | 'skip' | 'match';
  readonly forceNotNull: readonly string[];
  readonly forceNull: readonly string[];
}

/** @throws RouterError for what isn't known, and for what only COPY itself can do. */
export function readCopyOptions(source: CopySource): CopyOptions {
  if (source.hasCondition) throw notSupported('COPY FROM with WHERE');
  const { format: formatName = 'text', ...others } = source.options;
  const format = String(formatName).toLowerCase();
  if (format !== 'text' && format !== 'csv' && format !== 'binary')
    throw new RouterError('Syntax', `COPY format "${format}" not recognized`, { sqlstate: '22023' });
  const isCsv = format === 'csv';
  let delimiter = isCsv ? ',' : '\t';
  let quote = '"';
  let escape: string | undefined;
  let nullText = isCsv ? '' : '\\N';
  let header: CopyOptions['header'] = 'none';
  let forceNotNull: readonly string[] = [];
  let forceNull: readonly string[] = [];
  for (const [name, value] of Object.entries(others)) {
    switch (name) {
      case 'delimiter':
        delimiter = String(value);
        break;
      case 'null':
        nullText = String(value);
        break;
      case 'quote':
        quote = String(value);
        break;
      case 'escape':
        escape = String(value);
        break;
      case 'header':
        header = headerOf(String(value));
        break;
      case 'force_not_null':
        forceNotNull = listOf(value);
        break;
      case 'force_null':
        forceNull = listOf(value);
        break;
      case 'encoding':
        if (!/^utf-?8$|^unicode$/i.test(String(value))) throw notSupported(`COPY with encoding "${String(value)}"`);
        break;
      case 'freeze':
        if (isTrue(String(value))) throw notSupported('COPY with FREEZE');
        break;
      case 'on_error':
        if (String(value).toLowerCase() !== 'stop') throw notSupported('COPY with ON_ERROR');
        break;
      case 'log_verbosity':
        break;
      default:
        throw notSupported(`COPY FROM with option "${name}"`);
    }
  }
  if (format === 'binary' && Object.keys(others).some((name) => ['delimiter', 'null', 'header'].includes(name)))
    throw new RouterError('Syntax', 'cannot specify DELIMITER, NULL or HEADER in BINARY mode');
  return {
    format,
    delimiter: singleByte('delimiter', delimiter),
    quote: singleByte('quote', quote),
    escape: singleByte('escape', escape ?? quote),
    nullText: Buffer.from(nullText, 'utf8'),
    header,
    forceNotNull,
    forceNull,
  };
}

const notSupported = (what: string): RouterError =>
  new RouterError('CopyFrom', `${what} is not supported through the router`);

const isTrue = (value: string): boolean => ['', 'true', 'on', '1', 'yes'].includes(value.toLowerCase());

function headerOf(value: string): CopyOptions['header'] {
  if (value.toLowerCase() === 'match') return 'match';
  return isTrue(value) ? 'skip' : 'none';
}

const listOf = (value: string | readonly string[]): readonly string[] => (typeof value === 'string' ? [value] : value);

function singleByte(what: string, value: string): number {
  const bytes = Buffer.from(value, 'utf8');
  const [first] = bytes;
  if (bytes.length !== 1 || first === undefined || first === 0x0a || first === 0x0d)
    throw new RouterError('NotSupported', `COPY ${what} must be a single one-byte character`, { hint: '' });
  return first;
}
