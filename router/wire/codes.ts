/**
 * The type bytes and numbers of the Postgres v3 protocol, and the limits that the router holds peers to.
 * Source: PostgreSQL documentation, "Message Formats" and "Message Flow".
 */

const code = (letter: string): number => letter.charCodeAt(0);

/** Messages that a client sends. */
export const frontend = {
  bind: code('B'),
  close: code('C'),
  copyData: code('d'),
  copyDone: code('c'),
  copyFail: code('f'),
  describe: code('D'),
  execute: code('E'),
  flush: code('H'),
  functionCall: code('F'),
  parse: code('P'),
  /** Also SASLInitialResponse and SASLResponse. */
  password: code('p'),
  query: code('Q'),
  sync: code('S'),
  terminate: code('X'),
} as const;

/** Messages that a server sends. */
export const backend = {
  authentication: code('R'),
  backendKeyData: code('K'),
  bindComplete: code('2'),
  closeComplete: code('3'),
  commandComplete: code('C'),
  copyBoth: code('W'),
  copyData: code('d'),
  copyDone: code('c'),
  copyIn: code('G'),
  copyOut: code('H'),
  dataRow: code('D'),
  emptyQuery: code('I'),
  error: code('E'),
  functionResult: code('V'),
  negotiateProtocolVersion: code('v'),
  noData: code('n'),
  notice: code('N'),
  notification: code('A'),
  parameterDescription: code('t'),
  parameterStatus: code('S'),
  parseComplete: code('1'),
  portalSuspended: code('s'),
  readyForQuery: code('Z'),
  rowDescription: code('T'),
} as const;

/** The status byte of ReadyForQuery. */
export const transactionStatus = { idle: code('I'), open: code('T'), failed: code('E') } as const;

/** What Describe and Close are about. */
export const describeTarget = { statement: code('S'), portal: code('P') } as const;

export const protocolVersion3 = 0x0003_0000;
/** The newest minor version that clients are offered; 3.2 is 3.0 with longer cancel keys. 3.1 is nobody's ("Protocol Versions"). */
export const newestMinorVersion = 2;
export const startupCodes = { cancel: 80877102, ssl: 80877103, gss: 80877104 } as const;

/** Type byte and length. */
export const headerBytes = 5;
/** Postgres' own MAX_STARTUP_PACKET_LENGTH. */
export const maxStartupBytes = 10_000;
/** The longest secret of a cancel request ("CancelRequest"). */
export const maxCancelKeyBytes = 256;
/** A client that has not shown who it is may send no more than this. */
export const maxBytesBeforeAuthentication = 64 * 1024;
/** The longest message taken from a client: it is held whole, since where it goes depends on what it says. */
export const maxClientMessageBytes = 256 * 1024 * 1024;
/** The longest message of a server that is held whole; rows and COPY data are never held. */
export const maxServerMessageBytes = 64 * 1024 * 1024;
