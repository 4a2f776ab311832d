/**
 * A connection from its first byte to a logged-in session: start-up packet, protocol version, SCRAM, what the session begins with; or a
 * cancel request. Leaves encryption to doorway.ts, and what a cancel does to cancel-relay.ts.
 * Invariants: before the log-in a client has a bounded time and a bounded number of bytes, and hears the same whether a user exists or
 * not; what it sends behind its last message of the log-in is the session's.
 */
import type { Socket } from 'node:net';
import type { AdminSession } from '../admin/admin-session.ts';
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import { SessionLimits } from '../limits/session-limits.ts';
import { type Login, verifiersAt } from '../map/logins.ts';
import { adminRightOf } from '../map/map.ts';
import { clientIdentity } from '../tls.ts';
import {
  frontend,
  headerBytes,
  maxBytesBeforeAuthentication,
  newestMinorVersion,
  protocolVersion3,
  transactionStatus,
} from '../wire/codes.ts';
import { FrameSplitter } from '../wire/frames.ts';
import { ProtocolViolation } from '../wire/protocol-violation.ts';
import { MessageReader } from '../wire/reader.ts';
import { mockVerifier, ScramConversation, type ScramStep, scramPlain, scramPlus } from '../wire/scram.ts';
import {
  authenticationOk,
  authenticationSasl,
  authenticationSaslContinue,
  authenticationSaslFinal,
  backendKeyData,
  negotiateProtocolVersion,
  parameterStatus,
  readyForQuery,
} from '../wire/server-messages.ts';
import type { CancelKey } from './cancel-keys.ts';
import { Doorway, type Purpose } from './doorway.ts';
import { Session } from './session.ts';
import { readStartupSettings } from './startup-settings.ts';

/** Nobody's rows: the router itself. */
const adminDatabase = 'meridian';

type Startup = Extract<Purpose, { kind: 'startup' }>;
type Cancel = Extract<Purpose, { kind: 'cancel' }>;

export interface HandshakeOptions {
  readonly timeoutMs: number;
  /** False when there are as many clients as there may be. */
  readonly mayAdmit: () => boolean;
  readonly onSession: (session: Session) => void;
  readonly onSessionClosed: (session: Session) => void;
  /** Takes a client of the admin database, whose role may use it. @throws RouterError where there are enough. */
  readonly onAdmin: (socket: Socket, role: string) => AdminSession;
}

export class Handshake {
  readonly #context: RouterContext;
  readonly #options: HandshakeOptions;
  readonly #doorway: Doorway;
  #startup: Startup | undefined;
  #user = '';
  #login: Login | undefined;
  #scram: ScramConversation | undefined;
  #mechanisms: readonly string[] = [];
  #scramStarted = false;
  readonly #splitter = new FrameSplitter(maxBytesBeforeAuthentication);
  readonly #timer: NodeJS.Timeout;
  #isDone = false;
  #isCancel = false;
  #session: Session | AdminSession | undefined;

  constructor(context: RouterContext, socket: Socket, options: HandshakeOptions) {
    this.#context = context;
    this.#options = options;
    this.#timer = setTimeout(() => this.#late(), options.timeoutMs);
    this.#doorway = new Doorway(socket, () => context.tls(), context.proxies, {
      arrived: (purpose) => (purpose.kind === 'cancel' ? this.#cancel(purpose) : this.#start(purpose)),
      bytes: (chunk) => this.#receive(chunk),
      failed: (error) => this.#failed(error),
      gone: () => this.#end(),
    });
  }

  #end(): void {
    if (this.#isDone) return;
    this.#isDone = true;
    clearTimeout(this.#timer);
    this.#doorway.release().destroy();
  }

  #late(): void {
    // Whoever cancels is told nothing, whatever happens.
    if (this.#isCancel) return this.#end();
    this.#fail(new RouterError('AuthenticationTimeout', 'no log-in in time'));
  }

  #fail(error: RouterError): void {
    if (this.#isDone) return;
    this.#context.metrics.add('logins_refused_total');
    this.#context.log.info({ user: this.#user, code: error.code, address: this.#doorway.address }, error.message);
    this.#isDone = true;
    clearTimeout(this.#timer);
    const socket = this.#doorway.release();
    socket.end(error.response('FATAL'));
    socket.resume();
    setTimeout(() => socket.destroy(), 1_000).unref();
  }

  #failed(error: unknown): void {
    if (error instanceof RouterError) return this.#fail(error);
    if (error instanceof ProtocolViolation) return this.#fail(new RouterError('ProtocolViolation', error.message));
    this.#context.log.error({ err: error }, 'handshake failed');
    this.#fail(new RouterError('Internal', 'internal error'));
  }

  // ---- a cancel request

  /** Whoever cancels waits for the connection's end: then there is nothing under way any more that could hit a later statement. */
  #cancel(key: Cancel): void {
    this.#isCancel = true;
    this.#context.metrics.add('cancels_total');
    const isFromRouter = this.#identity?.kind === 'router';
    void this.#context.cancels
      .take(key, isFromRouter)
      .catch((error: unknown) => this.#context.log.error({ err: error }, 'cancel failed'))
      .finally(() => this.#end());
  }

  get #identity(): ReturnType<typeof clientIdentity> {
    const { tls, peerCertificate } = this.#doorway;
    return tls === undefined ? undefined : clientIdentity(peerCertificate, tls.authorities, Date.now());
  }

  // ---- a log-in

  #start(startup: Startup): void {
    this.#startup = startup;
    void this.#begin(startup).catch((error: unknown) => this.#failed(error));
  }

  async #begin(startup: Startup): Promise<void> {
    const { tls } = this.#doorway;
    if (tls === undefined && !this.#context.allowPlaintext)
      throw new RouterError('NoPlaintext', 'the router takes encrypted connections only');
    this.#user = startup.parameters.get('user') ?? '';
    if (this.#user === '')
      throw new RouterError('NoPlaintext', 'no PostgreSQL user name specified in startup packet', { hint: '' });
    if (this.#context.map() === undefined)
      throw new RouterError('NotReady', 'the router does not know the keyspace yet');
    if (!this.#isAdmin && !this.#options.mayAdmit())
      throw new RouterError('TooManyClients', 'sorry, too many clients already');
    const minor = Math.min(startup.minorVersion, newestMinorVersion);
    if (minor !== startup.minorVersion || startup.protocolOptions.length > 0)
      this.#doorway.socket.write(negotiateProtocolVersion(protocolVersion3 + minor, startup.protocolOptions));
    const login = await this.#context.directory.login(this.#user);
    if (this.#isDone) return;
    if (!this.#context.directory.isReady) throw new RouterError('NotReady', 'no member has said yet who may log in');
    const verifiers = login === undefined ? [] : verifiersAt(login, Date.now());
    const isAcceptable = verifiers.length > 0;
    this.#login = login;
    this.#scram = new ScramConversation(
      isAcceptable ? verifiers : [mockVerifier(this.#user, this.#context.tls().mockSecret)],
      isAcceptable,
      undefined,
      tls?.serverEndPoint,
    );
    this.#mechanisms = tls?.serverEndPoint === undefined ? [scramPlain] : [scramPlus, scramPlain];
    this.#doorway.socket.write(authenticationSasl(this.#mechanisms));
  }

  #receive(chunk: Buffer): void {
    if (this.#isDone) return;
    if (this.#isCancel) throw new ProtocolViolation('bytes behind a cancel request');
    this.#splitter.push(chunk, (type, frame) => this.#receiveFrame(type, frame));
    // The session has been made meanwhile: the beginning of its first message may be here.
    if (this.#splitter.heldBytes > 0) this.#session?.receive(this.#splitter.takeHeld());
  }

  #receiveFrame(type: number, frame: Buffer): void {
    if (this.#session !== undefined) return this.#session.receive(frame);
    if (this.#isDone) return;
    if (type === frontend.terminate) return this.#end();
    if (type !== frontend.password || this.#scram === undefined)
      throw new ProtocolViolation(`expected a SASL response, got message type ${type}`);
    if (this.#scramStarted) return this.#step(this.#scram.final(frame.toString('utf8', headerBytes)));
    this.#scramStarted = true;
    const reader = new MessageReader(frame, headerBytes);
    const mechanism = reader.text();
    if (!this.#mechanisms.includes(mechanism))
      throw new ProtocolViolation('client selected an invalid SASL authentication mechanism');
    const initial = reader.nullableField();
    reader.finish();
    if (initial === null) throw new ProtocolViolation('SASL without an initial response');
    this.#step(this.#scram.first(initial.toString('utf8'), mechanism));
  }

  #step(step: ScramStep): void {
    switch (step.kind) {
      case 'continue':
        this.#doorway.socket.write(authenticationSaslContinue(step.message));
        return;
      case 'malformed':
        throw new ProtocolViolation(step.message);
      case 'unbound':
        throw new RouterError('WrongPassword', step.message, { sqlstate: '28000' });
      case 'refused':
        throw new RouterError('WrongPassword', `password authentication failed for user "${this.#user}"`);
      case 'final':
        return this.#admit(step.message);
    }
  }

  #expectCertificate(): void {
    const identity = this.#identity;
    if (identity?.kind !== 'role' || identity.role !== this.#user)
      throw new RouterError('NoCertificate', 'connection requires a valid client certificate');
  }

  #admit(serverFinal: string): void {
    const map = this.#context.map();
    const startup = this.#startup;
    const login = this.#login;
    // Said only to one who knows the password.
    if (map?.keyspace.certificateRoles?.includes(this.#user) === true) this.#expectCertificate();
    if (map === undefined || startup === undefined || login === undefined)
      throw new RouterError('Internal', 'a log-in without a start');
    if (this.#isAdmin) return this.#admitAdmin(serverFinal, login, startup.minorVersion);
    const database = startup.parameters.get('database') ?? this.#user;
    if (database !== map.keyspace.database)
      throw new RouterError('UnknownDatabase', `database "${database}" does not exist`);
    if (!this.#options.mayAdmit()) throw new RouterError('TooManyClients', 'sorry, too many clients already');
    const start = readStartupSettings(startup.parameters, { map, login, tokens: this.#context.tokens });
    const limits = new SessionLimits(this.#context.limits, start.settings, login);

    this.#isDone = true;
    clearTimeout(this.#timer);
    const socket = this.#doorway.release();
    // The session lasts, and nothing of its log-in should with it: what it is given knows nothing of `this`.
    const { cancels } = this.#context;
    const { onSessionClosed } = this.#options;
    const session = new Session(
      this.#context,
      socket,
      {
        login,
        settings: start.settings,
        applicationName: start.applicationName,
        limits,
        address: this.#doorway.address,
      },
      (closed) => {
        if (closed.key !== undefined) cancels.keys.revoke(closed.key);
        onSessionClosed(closed);
      },
    );
    this.#session = session;
    session.key = this.#context.cancels.keys.issue(session, startup.minorVersion >= 2 ? 'long' : 'short');
    this.#context.metrics.add('logins_total');
    this.#welcome(socket, serverFinal, session.key, start.reported);
    this.#options.onSession(session);
  }

  /** It is for the admin database. A keyspace whose database has that name has none. */
  get #isAdmin(): boolean {
    return this.#startup?.parameters.get('database') === adminDatabase && this.#database !== adminDatabase;
  }

  get #database(): string | undefined {
    return this.#context.map()?.keyspace.database;
  }

  #admitAdmin(serverFinal: string, { role }: Login, minorVersion: number): void {
    if (adminRightOf(this.#context.map(), role) === undefined)
      throw new RouterError('Forbidden', `permission denied for database "${adminDatabase}"`, {
        hint: 'The Keyspace says who may administer routers (spec.roles[].admin).',
      });
    const admin = this.#options.onAdmin(this.#doorway.socket, role);
    this.#isDone = true;
    clearTimeout(this.#timer);
    const socket = this.#doorway.release();
    admin.listen();
    this.#session = admin;
    admin.key = this.#context.cancels.keys.issue(admin, minorVersion >= 2 ? 'long' : 'short');
    const { key } = admin;
    socket.once('close', () => this.#context.cancels.keys.revoke(key));
    this.#welcome(socket, serverFinal, key, new Map());
  }

  #welcome(socket: Socket, serverFinal: string, key: CancelKey, reported: ReadonlyMap<string, string>): void {
    const statuses = new Map([...this.#context.directory.parameters, ...reported]);
    statuses.set('session_authorization', this.#user);
    statuses.set('is_superuser', 'off');
    socket.write(
      Buffer.concat([
        authenticationSaslFinal(serverFinal),
        authenticationOk,
        ...[...statuses].map(([name, value]) => parameterStatus(name, value)),
        backendKeyData(key.processId, key.secret),
        readyForQuery(transactionStatus.idle),
      ]),
    );
  }
}
