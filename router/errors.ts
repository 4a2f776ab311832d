/**
 * Every error that the router itself says to a client: one table, from which the documentation is made.
 * Errors of Postgres are passed on as they came and aren't here. `code` is stable and what tests and metrics name.
 */
import { type ErrorFields, errorResponse } from './wire/server-messages.ts';

export interface ErrorKind {
  readonly sqlstate: string;
  /** What to do about it; said as HINT. */
  readonly hint?: string;
}

export const errorKinds = {
  UnknownTenant: { sqlstate: 'MD002', hint: 'Declare the tenant as a Tenant object, or check its spelling.' },
  NoTenant: {
    sqlstate: 'MD003',
    hint: "Restrict every tenant-owned table to one tenant key, or run SET meridian.tenant = '...', or begin the statement with /* tenant='...' */.",
  },
  OtherTenant: {
    sqlstate: 'MD004',
    hint: 'A transaction and a session with a tenant serve that tenant only. End the transaction, or change meridian.tenant between transactions.',
  },
  TenantForbidden: {
    sqlstate: '42501',
    hint: 'The Keyspace lists which tenants a role may act for (spec.roles).',
  },
  Forbidden: { sqlstate: '42501' },
  NotSupported: { sqlstate: '0A000' },
  Behind: {
    sqlstate: 'MD005',
    hint: 'No follower has seen enough yet, and meridian.when_behind says not to ask the primary: try again.',
  },
  MayBeLost: {
    sqlstate: 'MD006',
    hint: 'The shard acknowledges writes before a follower has them (k = 0), and its primary was lost. Look what is there; the next read goes on from that.',
  },
  ReferenceWrite: {
    sqlstate: '0A000',
    hint: 'Reference tables have the same rows on every shard; change them with a migration of the Keyspace.',
  },
  OtherShard: {
    sqlstate: '0A000',
    hint: 'A transaction runs on one shard. Name the tenant before the first statement of the transaction (SET meridian.tenant).',
  },
  NotOnFollower: {
    sqlstate: '25006',
    hint: 'This transaction reads on a follower (READ ONLY with meridian.consistency = eventual).',
  },
  CopyFrom: {
    sqlstate: '0A000',
    hint: 'The router turns COPY into INSERTs: copy without that option, or send INSERTs.',
  },
  MixedPipeline: {
    sqlstate: '0A000',
    hint: 'Send statements about meridian.* settings, DEALLOCATE and DISCARD ALL on their own, with a Sync (or a query) each.',
  },
  WrongPassword: { sqlstate: '28P01' },
  NoPlaintext: { sqlstate: '28000', hint: 'Connect with sslmode=verify-full and the CA from the role’s Secret.' },
  NoCertificate: {
    sqlstate: '28000',
    hint: 'The certificate is in the role’s Secret: sslcert and sslkey from tls.crt and tls.key.',
  },
  UnknownDatabase: { sqlstate: '3D000' },
  InvalidSetting: { sqlstate: '22023' },
  UnknownSetting: { sqlstate: '42704' },
  ProtocolViolation: { sqlstate: '08P01' },
  MessageTooLong: { sqlstate: '54000' },
  TooMuchMemory: {
    sqlstate: '53200',
    hint: 'Clients hold too much of long messages: try again in a moment, or send shorter ones (COPY, fewer rows at a time).',
  },
  TooMuchKept: {
    sqlstate: '54000',
    hint: 'Close prepared statements that are not used any more, or use fewer and shorter ones.',
  },
  TooManyClients: { sqlstate: '53300' },
  TooManyConnections: {
    sqlstate: '53300',
    hint: 'Close some, or raise limits.connections of the Tenant, or of the role in the Keyspace.',
  },
  TooManyInFlight: {
    sqlstate: '53300',
    hint: 'Nothing of it was sent. Shorten transactions, or raise limits.transactionsInFlight of the Tenant, or of the role in the Keyspace.',
  },
  TooManyStatements: {
    sqlstate: '53400',
    hint: 'Nothing of it was sent: try again in a moment, or raise limits.statementsPerSecond of the Tenant, or of the role in the Keyspace.',
  },
  IdleSession: { sqlstate: '57P05', hint: 'Connect again. See Keyspace.spec.routers.idleSessionTimeoutMs.' },
  IdleInTransaction: {
    sqlstate: '25P03',
    hint: 'Nothing of the transaction was kept. See Keyspace.spec.routers.idleInTransactionSessionTimeoutMs.',
  },
  NoBackendInTime: {
    sqlstate: '53300',
    hint: 'All connections to this member are in use. Shorten transactions, or raise Keyspace.spec.routers.poolSize.',
  },
  TooManyKept: {
    sqlstate: '53300',
    hint: 'Sessions that listen, or have session locks, temporary tables and the like, keep a connection each: at most half of Keyspace.spec.routers.poolSize.',
  },
  NoMember: { sqlstate: '57P03', hint: 'Try again; kubectl get shards,regionalreplicas shows what is up.' },
  HeldTooLong: {
    sqlstate: '57P03',
    hint: 'Nothing of it was sent: try again; kubectl describe shard shows why its primary is away.',
  },
  TooMuchHeld: { sqlstate: '57P03', hint: 'Nothing of it was sent: try again in a moment.' },
  NotReady: { sqlstate: '57P03', hint: 'Try again in a moment.' },
  LoginChanged: { sqlstate: '57P01', hint: 'Connect again; the Keyspace says what the role may do (spec.roles).' },
  ShuttingDown: { sqlstate: '57P01', hint: 'Connect again.' },
  AuthenticationTimeout: { sqlstate: '08006' },
  TransactionAborted: { sqlstate: '25P02' },
  SerializationFailure: { sqlstate: '40001', hint: 'Nothing of the transaction was kept: run it again.' },
  OutcomeUnknown: { sqlstate: '08007', hint: 'It may or may not have been committed: look before running it again.' },
  KeptLost: {
    sqlstate: '08006',
    hint: 'Connect again: what the session had in Postgres (channels, session locks, temporary tables) is gone.',
  },
  ConnectionLost: { sqlstate: '08006', hint: 'It was only reading: run it again.' },
  ResultTypeChanged: { sqlstate: '0A000', hint: 'Tables have changed since it was described: prepare it again.' },
  DuplicateStatement: { sqlstate: '42P05' },
  UnknownStatement: { sqlstate: '26000' },
  UnknownPortal: { sqlstate: '34000' },
  ActiveTransaction: { sqlstate: '25001' },
  NoTransaction: { sqlstate: '25P01' },
  Cancelled: { sqlstate: '57014' },
  Syntax: { sqlstate: '42601' },
  Internal: { sqlstate: 'XX000' },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorKinds;

/** An error on its way to a client. Thrown where a client's wish can't be met; the session answers with it. */
export class RouterError extends Error {
  readonly code: ErrorCode;
  readonly sqlstate: string;
  readonly hint: string | undefined;
  readonly position: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { sqlstate?: string | undefined; hint?: string | undefined; position?: number | undefined } = {},
  ) {
    super(message);
    this.name = 'RouterError';
    const kind: ErrorKind = errorKinds[code];
    this.code = code;
    this.sqlstate = options.sqlstate ?? kind.sqlstate;
    this.hint = options.hint ?? kind.hint;
    this.position = options.position;
  }

  /** The message that says so; FATAL where the connection ends after it. */
  response(severity: 'ERROR' | 'FATAL' = 'ERROR'): Buffer {
    const fields: ErrorFields = {
      severity,
      sqlstate: this.sqlstate,
      message: this.message,
      hint: this.hint,
      position: this.position,
      // By this drivers know that preparing it again helps.
      routine: this.code === 'ResultTypeChanged' ? 'RevalidateCachedQuery' : undefined,
    };
    return errorResponse(fields);
  }
}
