/**
 * Log sequence numbers: positions in a Postgres write-ahead log, as branded bigints.
 * Text form and arithmetic only; which positions may be compared (epoch first, then LSN) is decided in `core/authority`.
 * Source: PostgreSQL documentation, "pg_lsn Type".
 */

/** A byte position in the write-ahead log, 0 to 2^64 - 1. */
export type Lsn = bigint & { readonly __lsn: unique symbol };

/** The position before any record; also what Postgres calls an invalid LSN. */
export const zeroLsn = 0n as Lsn;

const textForm = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/**
 * Reads Postgres' text form, for example `16/B374D848`.
 * @throws RangeError when the text is not an LSN.
 */
export function parseLsn(text: string): Lsn {
  const match = textForm.exec(text);
  if (match === null)
    throw new RangeError(
      `not an LSN: ${JSON.stringify(text)} (expected two hexadecimal numbers with a slash, like 16/B374D848)`,
    );
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** Postgres' text form, upper case, without leading zeros. */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}

/** How many bytes `to` lies ahead of `from`; negative when it lies behind. */
export function lsnDistanceBytes(from: Lsn, to: Lsn): bigint {
  return to - from;
}
