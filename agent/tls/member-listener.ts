/**
 * A port on which other members' agents dial in, by mutual TLS: the listener of tunnels and that of leases. It knows every
 * connection from its first byte on, also those that are still in their handshake, so that all of them can be ended.
 * Who a caller is, and whether it may come in, is for whoever is given the connection (`peer.ts`).
 * Bounds: connections, and the time for a handshake.
 */
import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import { type Credentials, secureContextOf } from './credentials.ts';

export interface MemberListenerOptions extends Pick<TlsOptions, 'highWaterMark'> {
  readonly credentials: Credentials;
  readonly handshakeTimeoutMs: number;
  readonly onConnection: (socket: TLSSocket) => void;
  /** One that got no further than TLS. */
  readonly onRefused: (reason: string, remoteAddress: string) => void;
}

const MAX_CONNECTIONS = 64;

export class MemberListener {
  readonly #server: Server;
  readonly #connections = new Set<Socket>();

  constructor({ credentials, handshakeTimeoutMs, onConnection, onRefused, ...rest }: MemberListenerOptions) {
    this.#server = createServer(
      {
        ...rest,
        ...secureContextOf(credentials),
        requestCert: true,
        rejectUnauthorized: true,
        handshakeTimeout: handshakeTimeoutMs,
      },
      onConnection,
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('connection', (socket: Socket) => {
      this.#connections.add(socket);
      socket.once('close', () => this.#connections.delete(socket));
    });
    this.#server.on('tlsClientError', (error, socket) => onRefused(error.message, socket.remoteAddress ?? ''));
  }

  /** Resolves to the port that it listens on; 0 asks for any. */
  listen(port: number, host?: string): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject);
        const address = this.#server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : port);
      });
    });
  }

  /** For those who dial from now on; open connections stay. */
  renew(credentials: Credentials): void {
    this.#server.setSecureContext(secureContextOf(credentials));
  }

  /** Ends every connection, too. */
  async stop(): Promise<void> {
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#connections) socket.destroy();
    await stopped;
  }
}
