/**
 * Why a stream ended right at its start, read from the few bytes that Postgres sent: an ErrorResponse, also behind the
 * start of the copy, where a walsender says that the WAL asked for is gone; or the system identifier of another database,
 * which the WAL receiver itself turns away from without a word to anybody. Pure.
 * Source: PostgreSQL documentation, "Message Formats" (ErrorResponse, DataRow), "Error and Notice Message Fields",
 * "Streaming Replication Protocol" (IDENTIFY_SYSTEM).
 */

export interface StreamRefusal {
  readonly sqlState: string;
  readonly message: string;
}

/** A stream that has carried more than this has begun; what ends it then is another matter. */
export const MAX_REFUSAL_BYTES = 8_192;

/** undefined_file: the segment "has already been removed" (errcode_for_file_access in the walsender). */
export const WAL_REMOVED = '58P01';

const HEADER_BYTES = 5;
const ERROR_RESPONSE = 'E'.charCodeAt(0);
const DATA_ROW = 'D'.charCodeAt(0);
/** systemid, timeline, xlogpos, dbname. */
const IDENTIFY_SYSTEM_COLUMNS = 4;
/** Number of columns, then the first one's length. */
const ROW_HEADER_BYTES = 6;

/** The last error in whole messages from the beginning; undefined when there is none, or these are no messages. */
export function readRefusal(received: Buffer): StreamRefusal | undefined {
  const body = [...messages(received)].findLast(({ type }) => type === ERROR_RESPONSE)?.body;
  return body === undefined ? undefined : readFields(body);
}

/** The first column of the first row, which is IDENTIFY_SYSTEM's: a WAL receiver asks for that before anything else. */
export function readSystemIdentifier(received: Buffer): string | undefined {
  const row = [...messages(received)].find(({ type }) => type === DATA_ROW)?.body;
  if (row === undefined || row.length < ROW_HEADER_BYTES || row.readInt16BE(0) !== IDENTIFY_SYSTEM_COLUMNS) {
    return undefined;
  }
  const text = row.toString('latin1', ROW_HEADER_BYTES, ROW_HEADER_BYTES + Math.max(0, row.readInt32BE(2)));
  return /^\d{1,20}$/.test(text) ? text : undefined;
}

interface Message {
  readonly type: number;
  readonly body: Buffer;
}

function* messages(received: Buffer): Generator<Message, void> {
  for (let at = 0; at + HEADER_BYTES <= received.length; ) {
    const length = received.readInt32BE(at + 1);
    const end = at + 1 + length;
    if (length < 4 || end > received.length) return;
    yield { type: received[at] ?? 0, body: received.subarray(at + HEADER_BYTES, end) };
    at = end;
  }
}

function readFields(body: Buffer): StreamRefusal {
  const fields = new Map(
    body
      .toString('utf8')
      .split('\0')
      .filter((field) => field !== '')
      .map((field) => [field.slice(0, 1), field.slice(1)] as const),
  );
  return { sqlState: fields.get('C') ?? '', message: fields.get('M') ?? 'an error without a message' };
}
