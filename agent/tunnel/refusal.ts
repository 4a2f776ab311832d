/**
 * Why a stream ended right at its start, read from the few bytes that Postgres sent: an ErrorResponse, also behind the
 * start of the copy, where a walsender says that the WAL asked for is gone. Pure.
 * Source: PostgreSQL documentation, "Message Formats" (ErrorResponse), "Error and Notice Message Fields".
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

/** The last error in whole messages from the beginning; undefined when there is none, or these are no messages. */
export function readRefusal(received: Buffer): StreamRefusal | undefined {
  let found: StreamRefusal | undefined;
  for (let at = 0; at + HEADER_BYTES <= received.length; ) {
    const length = received.readInt32BE(at + 1);
    const end = at + 1 + length;
    if (length < 4 || end > received.length) break;
    if (received[at] === ERROR_RESPONSE) found = readFields(received.subarray(at + HEADER_BYTES, end));
    at = end;
  }
  return found;
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
