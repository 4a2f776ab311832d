/**
 * Connections of the operator to the members' Postgres: as `meridian_operator`, by certificate, over TLS, by the pod's address.
 * The peer is known by the URI in its certificate, never by a host name (docs/design.md, section 4).
 * Leaves what is said over them to the files beside this one.
 *
 * Invariants: every wait is bounded (connecting, each statement, each lock); nothing a server sends is logged here; a connection
 * is never shared by two uses, and is closed after the use in which anything failed.
 * A commit that waits for its followers is never cancelled: closing our end leaves it waiting (docs/design.md, section 4, "What
 * Postgres leaks while a commit waits"), and `statement_timeout` does not reach into the wait (Postgres ends that timer before).
 */
import type { PeerCertificate } from 'node:tls';
import { Client } from 'pg';
import { identityOfSubjectAltName, identityUri } from '#core/identity.ts';
import { ports } from '#core/names.ts';
import { operatorRole } from '#core/roles.ts';

/** One member's Postgres, and whose it must be. */
export interface MemberTarget {
  readonly namespace: string;
  readonly keyspace: string;
  /** Pod name. */
  readonly member: string;
  /** Pod IP, as `RegionalReplica.status.members` has it. */
  readonly address: string;
  /** Default 5432. */
  readonly port?: number;
}

/** The operator's certificate of the keyspace, PEM. */
export interface ClientCredentials {
  readonly ca: string;
  readonly certificate: string;
  readonly privateKey: string;
}

export interface ConnectionBounds {
  /** TCP, TLS and authentication together; default 5 s. */
  readonly connectTimeoutMs?: number;
  /** Postgres' `statement_timeout`; default 30 s. */
  readonly statementTimeoutMs?: number;
  /** Postgres' `lock_timeout`; default 10 s. */
  readonly lockTimeoutMs?: number;
  /** How long an answer is waited for at all, a commit's wait for followers included; default 60 s. */
  readonly answerTimeoutMs?: number;
}

/** The certificate at the other end is valid, but another member's. */
export class WrongPeerError extends Error {
  override readonly name = 'WrongPeerError';
}

/** For Node's `checkServerIdentity`: undefined when the certificate is that member's. */
export function peerProblem(
  target: Pick<MemberTarget, 'namespace' | 'keyspace' | 'member'>,
  certificate: Pick<PeerCertificate, 'subjectaltname'>,
): WrongPeerError | undefined {
  const wanted = identityUri({ kind: 'member', ...target });
  const found = identityOfSubjectAltName(certificate.subjectaltname);
  const shown = found === undefined ? 'no identity of ours' : identityUri(found);
  return shown === wanted ? undefined : new WrongPeerError(`expected ${wanted}, the certificate has ${shown}`);
}

/** Opens a connection to the given database. The caller ends it. */
export async function connectMember(
  target: MemberTarget,
  database: string,
  credentials: ClientCredentials,
  bounds: ConnectionBounds = {},
): Promise<Client> {
  const {
    connectTimeoutMs = 5_000,
    statementTimeoutMs = 30_000,
    lockTimeoutMs = 10_000,
    answerTimeoutMs = 60_000,
  } = bounds;
  const client = new Client({
    host: target.address,
    port: target.port ?? ports.postgres,
    user: operatorRole,
    database,
    application_name: 'meridian-operator',
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: answerTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    // Whatever the shard's own parameters say: what the operator commits must survive a failover.
    options: `-c statement_timeout=${statementTimeoutMs} -c lock_timeout=${lockTimeoutMs} -c synchronous_commit=on -c idle_in_transaction_session_timeout=60000`,
    ssl: {
      ca: credentials.ca,
      cert: credentials.certificate,
      key: credentials.privateKey,
      minVersion: 'TLSv1.3',
      checkServerIdentity: (_host, certificate) => peerProblem(target, certificate),
    },
  });
  // Without a listener an error of an idle connection would end the process; the next query on it fails anyway.
  client.on('error', () => {});
  try {
    await client.connect();
  } catch (error) {
    await endQuietly(client);
    throw error;
  }
  return client;
}

/** Runs `use` on a connection of its own and closes it, whatever happens. */
export async function withMember<T>(
  target: MemberTarget,
  database: string,
  credentials: ClientCredentials,
  use: (client: Client) => Promise<T>,
  bounds: ConnectionBounds = {},
): Promise<T> {
  const client = await connectMember(target, database, credentials, bounds);
  try {
    return await use(client);
  } finally {
    await endQuietly(client);
  }
}

/** Closing waits for the server's goodbye; a dead server sends none. */
const closeTimeoutMs = 1_000;

/** Closes a connection without waiting long for a server that may be dead; never throws. */
export async function endQuietly(client: Client): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, closeTimeoutMs);
  });
  await Promise.race([client.end().catch(() => {}), patience]);
  clearTimeout(timer);
}
