/**
 * Opens a connection to a member: TCP, TLS with the router's certificate, start-up as a role. No password is ever sent:
 * the member takes the certificate (pg_hba `cert`), and anything else it asks for is an error.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type SecureContext, type TLSSocket } from 'node:tls';
import { memberIdentityCheck } from '../tls.ts';
import { queryMessage } from '../wire/client-messages.ts';
import { backend as code, maxServerMessageBytes, transactionStatus } from '../wire/codes.ts';
import { FrameSplitter } from '../wire/frames.ts';
import { readErrorFields, readParameterStatus, readTextRow } from '../wire/server-messages.ts';
import { cancelRequest, sslRequest, startupPacket } from '../wire/startup.ts';

export interface MemberAddress {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** For benches on one machine only: a map of the API server never says so. */
  readonly plaintext?: boolean | undefined;
}

/** The member answered and refused: SQLSTATE and words are its own. Anything else is an Error of the network or of TLS. */
export class MemberRefusal extends Error {
  readonly sqlstate: string;

  constructor(fields: ReadonlyMap<string, string>) {
    super(fields.get('M') ?? 'the member refused the connection');
    this.name = 'MemberRefusal';
    this.sqlstate = fields.get('C') ?? '08006';
  }
}

/** What the role may act for has just changed: nothing that the member's being up or down has to do with. */
export class RoleChanged extends MemberRefusal {
  constructor(role: string) {
    const message = `role "${role}" acts for other tenants than a moment ago: try again`;
    super(
      new Map([
        ['C', '57P03'],
        ['M', message],
      ]),
    );
    this.name = 'RoleChanged';
  }
}

export interface OpenedConnection {
  readonly socket: Socket;
  readonly processId: number;
  readonly secret: number;
  readonly parameters: Map<string, string>;
  /** Start time of the Postgres, in microseconds; '' where it wasn't asked. */
  readonly postmaster: string;
}

/** A connection on which nothing has been said yet: over TLS, unless the map is a bench's. */
function open(member: MemberAddress, context: SecureContext, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const tcp = connectTcp({
      host: member.address,
      port: member.port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 10_000,
    });
    let tls: TLSSocket | undefined;
    const fail = (error: Error): void => {
      clearTimeout(timer);
      tcp.destroy();
      tls?.destroy();
      reject(error);
    };
    const timer = setTimeout(() => fail(new Error(`no connection to ${member.name} in ${timeoutMs} ms`)), timeoutMs);
    tcp.on('error', fail);
    tcp.once('close', () => fail(new Error(`${member.name} closed the connection`)));
    if (member.plaintext === true) {
      tcp.once('connect', () => {
        clearTimeout(timer);
        tcp.removeListener('error', fail);
        tcp.removeAllListeners('close');
        resolve(tcp);
      });
      return;
    }
    tcp.once('connect', () => tcp.write(sslRequest));
    tcp.once('data', (answer: Buffer) => {
      // Exactly one byte: more would have been said outside TLS, and nothing of that is believed.
      if (answer.length !== 1 || answer[0] !== code.parameterStatus)
        return fail(new Error(`${member.name} does not offer TLS`));
      tls = connectTls({ socket: tcp, secureContext: context, checkServerIdentity: memberIdentityCheck(member.name) });
      tls.on('error', fail);
      tls.once('secureConnect', () => {
        clearTimeout(timer);
        tcp.on('error', () => undefined);
        tcp.removeListener('error', fail);
        tcp.removeAllListeners('close');
        (tls as TLSSocket).removeListener('error', fail);
        resolve(tls as TLSSocket);
      });
    });
  });
}

/**
 * What the planner, durability and the tenants' separation rest on. Any role can run ALTER ROLE ... SET for itself in a DO block, and
 * neither a privilege nor an event trigger forbids it; what the start-up packet says goes before that, and RESET ALL goes back to it
 * ("Parameter Interaction via SQL"; GucSource: PGC_S_CLIENT is above PGC_S_DATABASE_USER). The path is the one the planner begins with.
 */
const fixedSettings = {
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
  synchronous_commit: 'on',
  row_security: 'on',
  search_path: 'public',
  role: 'none',
} as const;

export interface ConnectOptions {
  readonly member: MemberAddress;
  readonly role: string;
  readonly database: string;
  readonly context: SecureContext;
  readonly timeoutMs: number;
  /** The one tenant that the role acts for, as the router knows it; null where sessions choose. Absent for a role of our own. */
  readonly fixedTenant?: string | null;
}

/**
 * Postgres holds what a login acts for as a constant of its connection. Where the router knows otherwise, the role was changed since:
 * a tenant that a client chose would count for nothing there, so the connection is of no use. The start time of the Postgres says to
 * which run of it belongs what is known of the member (consistency/).
 */
const actsForQuery = queryMessage(
  "select coalesce(meridian.login_tenant()::text, ''), (extract(epoch from pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint",
);

/**
 * Resolves when the member is ready for a query, and agrees on whom the role acts for.
 * @throws MemberRefusal, or an Error when the member can't be reached in time.
 */
export async function connectToMember(options: ConnectOptions): Promise<OpenedConnection> {
  const socket = await open(options.member, options.context, options.timeoutMs);
  return new Promise((resolve, reject) => {
    const parameters = new Map<string, string>();
    const splitter = new FrameSplitter(maxServerMessageBytes);
    let processId = 0;
    let secret = 0;
    let isAsked = false;
    let actsFor: string | undefined;
    let postmaster: string | undefined;
    const settle = (): void => {
      clearTimeout(timer);
      // Until its new owner listens: nothing may be lost, and no error may go unheard (that would end the process).
      socket.pause();
      socket.on('error', () => undefined);
      socket.removeListener('error', fail);
      socket.removeAllListeners('data');
      socket.removeAllListeners('close');
    };
    const fail = (error: Error): void => {
      settle();
      socket.destroy();
      reject(error);
    };
    const timer = setTimeout(
      () => fail(new Error(`${options.member.name} did not answer in ${options.timeoutMs} ms`)),
      options.timeoutMs,
    );
    socket.on('error', fail);
    socket.once('close', () => fail(new Error(`${options.member.name} closed the connection`)));
    const take = (type: number, frame: Buffer): void => {
      switch (type) {
        case code.authentication:
          if (frame.readInt32BE(5) !== 0) fail(new Error(`${options.member.name} asks for a password`));
          return;
        case code.parameterStatus: {
          const { name, value } = readParameterStatus(frame, 0, frame.length);
          parameters.set(name, value);
          return;
        }
        case code.backendKeyData:
          processId = frame.readInt32BE(5);
          secret = frame.readInt32BE(9);
          return;
        case code.dataRow:
          [actsFor, postmaster] = readTextRow(frame, 0, frame.length).map((value) => value ?? undefined);
          return;
        case code.error:
          return fail(new MemberRefusal(readErrorFields(frame, 0, frame.length)));
        case code.readyForQuery:
          if (frame[5] !== transactionStatus.idle) return fail(new Error('a new session that is not idle'));
          if (!isAsked && options.fixedTenant !== undefined) {
            isAsked = true;
            socket.write(actsForQuery);
            return;
          }
          if (isAsked && actsFor !== (options.fixedTenant ?? '')) return fail(new RoleChanged(options.role));
          settle();
          return resolve({ socket, processId, secret, parameters, postmaster: postmaster ?? '' });
        default:
      }
    };
    socket.on('data', (chunk: Buffer) => {
      try {
        splitter.push(chunk, take);
      } catch (error) {
        fail(error instanceof Error ? error : new Error(String(error)));
      }
    });
    socket.write(
      startupPacket({
        user: options.role,
        database: options.database,
        application_name: 'meridian-router',
        ...fixedSettings,
      }),
    );
  });
}

/**
 * Asks a member to cancel what a backend runs. Resolves when the member has closed the connection: only then has the signal
 * been sent, and only then may anything else be sent to that backend (traps, ambiguity 20).
 */
export async function sendCancel(
  member: MemberAddress,
  context: SecureContext,
  processId: number,
  secret: number,
  timeoutMs: number,
): Promise<void> {
  const socket: Socket = await open(member, context, timeoutMs);
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`${member.name} did not take the cancel request in ${timeoutMs} ms`));
    }, timeoutMs);
    const end = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve();
    };
    // The member says nothing and closes; a reset tells the same.
    socket.once('end', end);
    socket.once('close', end);
    socket.once('error', end);
    socket.resume();
    socket.write(cancelRequest(processId, secret));
  });
}
