/**
 * The agent's API over mutual TLS: `GET /v1/status` for operator, routers and members of the keyspace, `PUT /v1/orders`
 * for the operator alone. It checks who asks and whether the body is orders at all; whether they are taken is the
 * member's decision.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { z } from 'zod';
import type { Logger } from '#agent/log.ts';
import { type Credentials, secureContextOf } from '#agent/tls/credentials.ts';
import { type Place, peerOf } from '#agent/tls/peer.ts';
import type { PeerIdentity } from '#core/identity.ts';
import { type Orders, type OrdersRefusal, ordersSchema } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';

export interface ApiOptions {
  readonly place: Place;
  readonly credentials: Credentials;
  readonly status: () => Promise<AgentStatus>;
  readonly takeOrders: (orders: Orders) => Promise<OrdersRefusal | undefined>;
  readonly log: Logger;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

const MAX_BODY_BYTES = 256 * 1024;
const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 256;

export class ApiServer {
  readonly #options: ApiOptions;
  readonly #server: Server;
  /** Every connection from its first byte: `closeAllConnections` misses those that are still in the TLS handshake. */
  readonly #sockets = new Set<Socket>();

  constructor(options: ApiOptions) {
    this.#options = options;
    this.#server = createServer(
      {
        ...secureContextOf(options.credentials),
        requestCert: true,
        rejectUnauthorized: true,
        requestTimeout: REQUEST_TIMEOUT_MS,
        headersTimeout: REQUEST_TIMEOUT_MS,
      },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, () => resolve());
    });
  }

  renew(credentials: Credentials): void {
    this.#server.setSecureContext(secureContextOf(credentials));
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      for (const socket of this.#sockets) socket.destroy();
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let answer: Answer;
    try {
      answer = await this.#answer(request, peerOf(request.socket as TLSSocket, this.#options.place));
    } catch (error) {
      this.#options.log.error({ err: error, url: request.url }, 'api: failed');
      answer = refusal(500, 'Failed', error instanceof Error ? error.message : String(error));
    }
    response.writeHead(answer.status, { 'content-type': 'application/json' });
    response.end(`${JSON.stringify(answer.body)}\n`);
  }

  async #answer(request: IncomingMessage, peer: PeerIdentity | undefined): Promise<Answer> {
    if (peer === undefined) return refusal(403, 'Forbidden', 'the certificate has no identity of this keyspace');
    switch (`${request.method} ${request.url}`) {
      case 'GET /v1/status':
        return { status: 200, body: await this.#options.status() };
      case 'PUT /v1/orders':
        if (peer.kind !== 'operator')
          return refusal(403, 'Forbidden', `orders are the operator's, not a ${peer.kind}'s`);
        return this.#putOrders(request);
      default:
        return refusal(404, 'NotFound', `there is no ${request.method} ${request.url}`);
    }
  }

  async #putOrders(request: IncomingMessage): Promise<Answer> {
    const body = await readBody(request);
    const parsed = body === undefined ? undefined : ordersSchema.safeParse(parseJson(body));
    if (parsed === undefined) return refusal(413, 'Invalid', `orders of more than ${MAX_BODY_BYTES} bytes`);
    if (!parsed.success) return refusal(400, 'Invalid', z.prettifyError(parsed.error));
    const refused = await this.#options.takeOrders(parsed.data);
    if (refused !== undefined) return { status: refused.code === 'Invalid' ? 400 : 409, body: refused };
    return { status: 200, body: await this.#options.status() };
  }
}

const refusal = (status: number, code: string, message: string): Answer => ({ status, body: { code, message } });

async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
