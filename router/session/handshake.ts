/**
 * A connection from its first byte to a logged-in session: TLS or its refusal, start-up packet, SCRAM, what the session begins with.
 * Invariants: nothing that came before the TLS handshake is used after it; at most one SSLRequest and one GSSENCRequest; before the
 * log-in a client has a bounded time and a bounded number of bytes, and hears the same whether a user exists or not.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import { type Login, verifiersAt } from '../map/logins.ts';
import {
  frontend,
  headerBytes,
  maxBytesBeforeAuthentication,
  maxStartupBytes,
  protocolVersion3,
  transactionStatus,
} from '../wire/codes.ts';
import { FrameSplitter } from '../wire/frames.ts';
import { ProtocolViolation } from '../wire/protocol-violation.ts';
import { MessageReader } from '../wire/reader.ts';
import { mockVerifier, ScramConversation, type ScramStep } from '../wire/scram.ts';
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
import { readStartupPacket, type StartupPacket, startupPacketBytes } from '../wire/startup.ts';
import { Session } from './session.ts';
import { readStartupSettings } from './startup-settings.ts';

type Startup = Extract<StartupPacket, { kind: 'startup' }>;

const tlsHandshakeByte = 0x16;
const alpnProtocol = 'postgresql';
const secureByte = Buffer.from('S');
const refusedByte = Buffer.from('N');

export interface HandshakeOptions {
  readonly timeoutMs: number;
  /** False when there are as many clients as there may be. */
  readonly mayAdmit: () => boolean;
  readonly onSession: (session: Session) => void;
  readonly onSessionClosed: (session: Session) => void;
}

export class Handshake {
  readonly #context: RouterContext;
  readonly #options: HandshakeOptions;
  #socket: Socket;
  #isTls = false;
  #sslAsked = false;
  #gssAsked = false;
  #bytes = 0;
  #head: Buffer = Buffer.alloc(0);
  #startup: Startup | undefined;
  #user = '';
  #login: Login | undefined;
  #scram: ScramConversation | undefined;
  #scramStarted = false;
  readonly #splitter = new FrameSplitter(maxBytesBeforeAuthentication);
  readonly #timer: NodeJS.Timeout;
  #isDone = false;
  readonly #onData = (chunk: Buffer): void => this.#receive(chunk);
  readonly #onGone = (): void => this.#end();

  constructor(context: RouterContext, socket: Socket, options: HandshakeOptions) {
    this.#context = context;
    this.#options = options;
    this.#socket = socket;
    this.#timer = setTimeout(
      () => this.#fail(new RouterError('AuthenticationTimeout', 'no log-in in time')),
      options.timeoutMs,
    );
    this.#listen(socket);
  }

  /** The router goes: whoever isn't logged in is let go. */
  abort(): void {
    this.#fail(new RouterError('ShuttingDown', 'the router is shutting down'));
  }

  #listen(socket: Socket): void {
    socket.on('data', this.#onData);
    socket.on('close', this.#onGone);
    socket.on('error', this.#onGone);
  }

  #unlisten(socket: Socket): void {
    socket.removeListener('data', this.#onData);
    socket.removeListener('close', this.#onGone);
    socket.removeListener('error', this.#onGone);
  }

  #end(): void {
    if (this.#isDone) return;
    this.#isDone = true;
    clearTimeout(this.#timer);
    // An error of a socket that nobody listens to would end the process.
    this.#socket.on('error', () => undefined);
    this.#socket.destroy();
  }

  #fail(error: RouterError): void {
    if (this.#isDone) return;
    this.#context.metrics.add('logins_refused_total');
    this.#context.log.info({ user: this.#user, code: error.code, address: this.#socket.remoteAddress }, error.message);
    this.#isDone = true;
    clearTimeout(this.#timer);
    this.#unlisten(this.#socket);
    this.#socket.on('error', () => undefined);
    this.#socket.end(error.response('FATAL'));
    this.#socket.resume();
    const socket = this.#socket;
    setTimeout(() => socket.destroy(), 1_000).unref();
  }

  #receive(chunk: Buffer): void {
    this.#bytes += chunk.length;
    try {
      if (this.#bytes > maxBytesBeforeAuthentication) throw new ProtocolViolation('too many bytes before the log-in');
      if (this.#startup === undefined) this.#receiveHead(chunk);
      else this.#splitter.push(chunk, (type, frame) => this.#receiveFrame(type, frame));
    } catch (error) {
      if (error instanceof RouterError) this.#fail(error);
      else if (error instanceof ProtocolViolation) this.#fail(new RouterError('ProtocolViolation', error.message));
      else {
        this.#context.log.error({ err: error }, 'handshake failed');
        this.#fail(new RouterError('Internal', 'internal error'));
      }
    }
  }

  #receiveHead(chunk: Buffer): void {
    if (!this.#isTls && !this.#sslAsked && this.#head.length === 0 && chunk[0] === tlsHandshakeByte)
      return this.#secureDirectly(chunk);
    this.#head = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk]);
    const length = startupPacketBytes(this.#head);
    if (length === undefined || this.#head.length < length) {
      if (this.#head.length > maxStartupBytes) throw new ProtocolViolation('invalid length of startup packet');
      return;
    }
    const packet = readStartupPacket(this.#head.subarray(0, length));
    const rest = this.#head.subarray(length);
    this.#head = Buffer.alloc(0);
    switch (packet.kind) {
      case 'ssl':
        if (this.#sslAsked || this.#isTls) throw new ProtocolViolation('a second SSL request');
        this.#sslAsked = true;
        // Whatever came along was sent in the clear, by whomever: it must not be taken for what comes encrypted.
        if (rest.length > 0) throw new ProtocolViolation('received unencrypted data after SSL request');
        this.#socket.write(secureByte);
        return this.#secure({});
      case 'gss':
        if (this.#gssAsked || this.#isTls) throw new ProtocolViolation('a second GSSAPI encryption request');
        this.#gssAsked = true;
        if (rest.length > 0) throw new ProtocolViolation('received unencrypted data after GSSAPI encryption request');
        this.#socket.write(refusedByte);
        return;
      case 'cancel':
        this.#context.metrics.add('cancels_total');
        this.#context.cancels.cancel(packet.processId, packet.secret);
        return this.#end();
      case 'startup':
        this.#startup = packet;
        void this.#begin(packet).catch((error: unknown) => {
          this.#context.log.error({ err: error }, 'handshake failed');
          this.#fail(new RouterError('Internal', 'internal error'));
        });
        if (rest.length > 0) this.#splitter.push(rest, (type, frame) => this.#receiveFrame(type, frame));
    }
  }

  /** TLS from the first byte (libpq's sslnegotiation=direct); the protocol must be named, as Postgres demands. */
  #secureDirectly(chunk: Buffer): void {
    const raw = this.#socket;
    this.#unlisten(raw);
    raw.pause();
    raw.unshift(chunk);
    this.#secure({ ALPNProtocols: [alpnProtocol] });
  }

  #secure(options: { readonly ALPNProtocols?: string[] }): void {
    const raw = this.#socket;
    this.#unlisten(raw);
    const secured = new TLSSocket(raw, {
      isServer: true,
      secureContext: this.#context.tls().server,
      ...options,
    });
    this.#socket = secured;
    this.#isTls = true;
    raw.on('error', this.#onGone);
    raw.on('close', this.#onGone);
    secured.on('_tlsError', this.#onGone);
    secured.once('secure', () => {
      if (options.ALPNProtocols !== undefined && secured.alpnProtocol !== alpnProtocol) this.#end();
    });
    this.#listen(secured);
  }

  async #begin(startup: Startup): Promise<void> {
    if (!this.#isTls && !this.#context.allowPlaintext)
      return this.#fail(new RouterError('NoPlaintext', 'the router takes encrypted connections only'));
    this.#user = startup.parameters.get('user') ?? '';
    if (this.#user === '')
      return this.#fail(
        new RouterError('NoPlaintext', 'no PostgreSQL user name specified in startup packet', { hint: '' }),
      );
    if (this.#context.map() === undefined)
      return this.#fail(new RouterError('NotReady', 'the router does not know the keyspace yet'));
    if (!this.#options.mayAdmit())
      return this.#fail(new RouterError('TooManyClients', 'sorry, too many clients already'));
    if (startup.minorVersion > 0 || startup.protocolOptions.length > 0)
      this.#socket.write(negotiateProtocolVersion(protocolVersion3, startup.protocolOptions));
    const login = await this.#context.directory.login(this.#user);
    if (this.#isDone) return;
    if (!this.#context.directory.isReady)
      return this.#fail(new RouterError('NotReady', 'no member has said yet who may log in'));
    const verifiers = login === undefined ? [] : verifiersAt(login, Date.now());
    const isAcceptable = verifiers.length > 0;
    this.#login = login;
    this.#scram = new ScramConversation(
      isAcceptable ? verifiers : [mockVerifier(this.#user, this.#context.tls().mockSecret)],
      isAcceptable,
    );
    this.#socket.write(authenticationSasl);
  }

  #receiveFrame(type: number, frame: Buffer): void {
    if (this.#isDone) return;
    if (type === frontend.terminate) return this.#end();
    if (type !== frontend.password || this.#scram === undefined)
      throw new ProtocolViolation(`expected a SASL response, got message type ${type}`);
    const reader = new MessageReader(frame, headerBytes);
    let text: string;
    if (this.#scramStarted) text = frame.toString('utf8', headerBytes);
    else {
      const mechanism = reader.text();
      if (mechanism !== 'SCRAM-SHA-256')
        throw new ProtocolViolation('client selected an invalid SASL authentication mechanism');
      const initial = reader.nullableField();
      reader.finish();
      if (initial === null) throw new ProtocolViolation('SASL without an initial response');
      text = initial.toString('utf8');
    }
    const isFinal = this.#scramStarted;
    this.#scramStarted = true;
    this.#step(isFinal ? this.#scram.final(text) : this.#scram.first(text));
  }

  #step(step: ScramStep): void {
    switch (step.kind) {
      case 'continue':
        this.#socket.write(authenticationSaslContinue(step.message));
        return;
      case 'malformed':
        throw new ProtocolViolation(step.message);
      case 'refused':
        return this.#fail(new RouterError('WrongPassword', `password authentication failed for user "${this.#user}"`));
      case 'final':
        return this.#admit(step.message);
    }
  }

  #admit(serverFinal: string): void {
    const map = this.#context.map();
    const startup = this.#startup;
    const login = this.#login;
    if (map === undefined || startup === undefined || login === undefined)
      throw new RouterError('Internal', 'a log-in without a start');
    const database = startup.parameters.get('database') ?? this.#user;
    if (database !== map.keyspace.database)
      throw new RouterError('UnknownDatabase', `database "${database}" does not exist`);
    if (!this.#options.mayAdmit()) throw new RouterError('TooManyClients', 'sorry, too many clients already');
    const start = readStartupSettings(startup.parameters, { map, login });

    this.#isDone = true;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#unlisten(socket);
    const held = this.#splitter.takeHeld();
    const session = new Session(
      this.#context,
      socket,
      { login, settings: start.settings, applicationName: start.applicationName },
      (closed) => {
        if (closed.key !== undefined) this.#context.cancels.revoke(closed.key);
        this.#options.onSessionClosed(closed);
      },
    );
    session.key = this.#context.cancels.issue(session);
    this.#context.metrics.add('logins_total');
    const statuses = new Map([...this.#context.directory.parameters, ...start.reported]);
    statuses.set('session_authorization', login.role);
    statuses.set('is_superuser', 'off');
    socket.write(
      Buffer.concat([
        authenticationSaslFinal(serverFinal),
        authenticationOk,
        ...[...statuses].map(([name, value]) => parameterStatus(name, value)),
        backendKeyData(session.key.processId, session.key.secret),
        readyForQuery(transactionStatus.idle),
      ]),
    );
    this.#options.onSession(session);
    if (held.length > 0) session.receive(held);
  }
}
