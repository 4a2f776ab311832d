/**
 * A connection from its first byte to the packet that says what it is for: a load balancer's header, TLS (asked for, or at once) or
 * GSSAPI's refusal. Leaves to others what the packet asks for (handshake.ts).
 * Invariants: nothing that came before the TLS handshake is used after it; at most one SSLRequest and one GSSENCRequest; a bounded
 * number of bytes until `release`; a header counts only from the addresses that are trusted with it, and those must send one.
 */
import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { TlsContexts } from '../tls.ts';
import { maxBytesBeforeAuthentication } from '../wire/codes.ts';
import { ProtocolViolation } from '../wire/protocol-violation.ts';
import { readProxyHeader } from '../wire/proxy-header.ts';
import { readStartupPacket, type StartupPacket, startupPacketBytes } from '../wire/startup.ts';
import type { Proxies } from './proxies.ts';

const tlsHandshakeByte = 0x16;
/** What libpq names in its TLS handshake ("SSL Session Encryption"); a client that names others only speaks to somebody else. */
const alpnProtocol = 'postgresql';
const secureByte = Buffer.from('S');
const refusedByte = Buffer.from('N');
const nobody = (): void => undefined;

export type Purpose = Extract<StartupPacket, { kind: 'startup' | 'cancel' }>;

export interface Visitor {
  /** Once; what came behind the packet follows as `bytes`. */
  arrived(purpose: Purpose): void;
  bytes(chunk: Buffer): void;
  /** What was thrown while its bytes were read, by a visitor's own methods too. */
  failed(error: unknown): void;
  gone(): void;
}

export class Doorway {
  readonly #contexts: () => TlsContexts;
  readonly #visitor: Visitor;
  #socket: Socket;
  /** What TLS runs over. */
  #raw: Socket | undefined;
  #tls: TlsContexts | undefined;
  #expectsHeader: boolean;
  #address: string;
  #sslAsked = false;
  #gssAsked = false;
  #isDirect = false;
  #hasArrived = false;
  #bytes = 0;
  #head: Buffer = Buffer.alloc(0);
  readonly #onData = (chunk: Buffer): void => this.#receive(chunk);
  readonly #onGone = (): void => this.#visitor.gone();

  /** @param proxies who may say, with a PROXY protocol header, that they connect for somebody else. */
  constructor(socket: Socket, contexts: () => TlsContexts, proxies: Proxies, visitor: Visitor) {
    this.#socket = socket;
    this.#contexts = contexts;
    this.#visitor = visitor;
    this.#address = socket.remoteAddress ?? '';
    this.#expectsHeader = proxies.has(this.#address);
    this.#listen(socket);
  }

  get socket(): Socket {
    return this.#socket;
  }

  /** Where the client is, as far as is known. */
  get address(): string {
    return this.#address;
  }

  /** The contexts that this connection's TLS was made with; undefined without TLS. */
  get tls(): TlsContexts | undefined {
    return this.#tls;
  }

  get peerCertificate(): X509Certificate | undefined {
    return this.#socket instanceof TLSSocket ? this.#socket.getPeerX509Certificate() : undefined;
  }

  /** Lets go of the socket, so that nothing of the log-in is kept as long as it is open. */
  release(): Socket {
    const socket = this.#socket;
    this.#unlisten(socket);
    socket.removeListener('_tlsError', this.#onGone);
    // An error of a socket that nobody listens to would end the process.
    socket.on('error', nobody);
    if (this.#raw !== undefined) {
      this.#unlisten(this.#raw);
      this.#raw.on('error', nobody);
    }
    return socket;
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

  #receive(chunk: Buffer): void {
    try {
      this.#bytes += chunk.length;
      if (this.#bytes > maxBytesBeforeAuthentication) throw new ProtocolViolation('too many bytes before the log-in');
      if (this.#hasArrived) return this.#visitor.bytes(chunk);
      this.#head = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk]);
      if (this.#expectsHeader) this.#readHeader();
      if (!this.#expectsHeader) this.#readHead();
    } catch (error) {
      this.#visitor.failed(error);
    }
  }

  #readHeader(): void {
    const header = readProxyHeader(this.#head);
    if (header === undefined) return;
    this.#expectsHeader = false;
    this.#address = header.source?.address ?? this.#address;
    this.#head = this.#head.subarray(header.bytes);
  }

  #readHead(): void {
    const head = this.#head;
    const isFirst = this.#tls === undefined && !this.#sslAsked && !this.#gssAsked;
    if (isFirst && head[0] === tlsHandshakeByte) return this.#secureDirectly();
    const length = startupPacketBytes(head);
    if (length === undefined || head.length < length) return;
    const packet = readStartupPacket(head.subarray(0, length));
    const rest = head.subarray(length);
    this.#head = Buffer.alloc(0);
    switch (packet.kind) {
      case 'ssl':
        if (this.#sslAsked || this.#tls !== undefined) throw new ProtocolViolation('a second SSL request');
        this.#sslAsked = true;
        // Whatever came along was sent in the clear, by whomever: it must not be taken for what comes encrypted.
        if (rest.length > 0) throw new ProtocolViolation('received unencrypted data after SSL request');
        this.#socket.write(secureByte);
        return this.#secure();
      case 'gss':
        if (this.#gssAsked || this.#tls !== undefined)
          throw new ProtocolViolation('a second GSSAPI encryption request');
        this.#gssAsked = true;
        if (rest.length > 0) throw new ProtocolViolation('received unencrypted data after GSSAPI encryption request');
        this.#socket.write(refusedByte);
        return;
      default:
        this.#hasArrived = true;
        this.#visitor.arrived(packet);
        if (rest.length > 0) this.#visitor.bytes(rest);
    }
  }

  /** TLS from the first byte (libpq's sslnegotiation=direct); the protocol must be named, as Postgres demands. */
  #secureDirectly(): void {
    const chunk = this.#head;
    this.#head = Buffer.alloc(0);
    this.#isDirect = true;
    this.#socket.pause();
    this.#socket.unshift(chunk);
    this.#secure();
  }

  #secure(): void {
    const raw = this.#socket;
    this.#unlisten(raw);
    const tls = this.#contexts();
    const secured = new TLSSocket(raw, {
      isServer: true,
      secureContext: tls.server,
      ALPNProtocols: [alpnProtocol],
      // What it is worth is looked at by who needs one (clientIdentity).
      requestCert: true,
      rejectUnauthorized: false,
    });
    this.#socket = secured;
    this.#raw = raw;
    this.#tls = tls;
    raw.on('error', this.#onGone);
    raw.on('close', this.#onGone);
    secured.on('_tlsError', this.#onGone);
    secured.once('secure', () => {
      if (this.#isDirect && secured.alpnProtocol !== alpnProtocol) this.#visitor.gone();
    });
    this.#listen(secured);
  }
}
