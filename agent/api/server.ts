/**
 * The agent's API over mutual TLS: `GET /v1/status` and `POST /v1/authority` for operator, routers and members of the
 * keyspace, `PUT /v1/orders` and `POST /v1/fence` for the operator alone. It checks who asks and whether the body is what it
 * should be; whether orders and fences are taken is the member's decision.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { z } from 'zod';
import type { Logger } from '#agent/log.ts';
import type { FenceOutcome } from '#agent/member/fencing.ts';
import { type Credentials, secureContextOf } from '#agent/tls/credentials.ts';
import { type Place, peerOf } from '#agent/tls/peer.ts';
import type { PeerIdentity } from '#core/identity.ts';
import {
  type AuthorityAnswer,
  type AuthorityQuestion,
  authorityQuestionSchema,
  type FenceQuestion,
  fenceQuestionSchema,
} from '#core/protocol/authority.ts';
import { type Orders, type OrdersRefusal, ordersSchema } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';

export interface ApiOptions {
  readonly place: Place;
  readonly credentials: Credentials;
  readonly status: () => Promise<AgentStatus>;
  readonly takeOrders: (orders: Orders) => Promise<OrdersRefusal | undefined>;
  readonly authority: (question: AuthorityQuestion) => Promise<AuthorityAnswer>;
  readonly fence: (question: FenceQuestion) => Promise<FenceOutcome>;
  readonly log: Logger;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

const MAX_BODY_BYTES = 256 * 1024;
const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 256;
/** Whoever asks for the authority again and again keeps its connection. */
const KEEP_ALIVE_MS = 30_000;

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
        keepAliveTimeout: KEEP_ALIVE_MS,
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
      case 'POST /v1/authority':
        return this.#askAuthority(request, peer);
      case 'POST /v1/fence':
        if (peer.kind !== 'operator')
          return refusal(403, 'Forbidden', `a fence is the operator's, not a ${peer.kind}'s`);
        return this.#fence(request);
      default:
        return refusal(404, 'NotFound', `there is no ${request.method} ${request.url}`);
    }
  }

  async #putOrders(request: IncomingMessage): Promise<Answer> {
    const parsed = await parseBody(request, ordersSchema);
    if (parsed.kind === 'wrong') return parsed.answer;
    const refused = await this.#options.takeOrders(parsed.body);
    if (refused !== undefined) return { status: refused.code === 'Invalid' ? 400 : 409, body: refused };
    return { status: 200, body: await this.#options.status() };
  }

  async #askAuthority(request: IncomingMessage, peer: PeerIdentity): Promise<Answer> {
    const parsed = await parseBody(request, authorityQuestionSchema);
    if (parsed.kind === 'wrong') return parsed.answer;
    const { router, ...question } = parsed.body;
    if (router !== undefined && peer.kind !== 'router') {
      return refusal(403, 'Forbidden', `a router's word is a router's, not a ${peer.kind}'s`);
    }
    return {
      status: 200,
      body: await this.#options.authority(router === undefined ? question : { ...question, router }),
    };
  }

  async #fence(request: IncomingMessage): Promise<Answer> {
    const parsed = await parseBody(request, fenceQuestionSchema);
    if (parsed.kind === 'wrong') return parsed.answer;
    const outcome = await this.#options.fence(parsed.body);
    return outcome.kind === 'fenced' ? { status: 200, body: outcome.answer } : { status: 409, body: outcome.refusal };
  }
}

const refusal = (status: number, code: string, message: string): Answer => ({ status, body: { code, message } });

async function parseBody<Body>(
  request: IncomingMessage,
  schema: z.ZodType<Body>,
): Promise<{ kind: 'right'; body: Body } | { kind: 'wrong'; answer: Answer }> {
  const body = await readBody(request);
  if (body === undefined) {
    return { kind: 'wrong', answer: refusal(413, 'Invalid', `a body of more than ${MAX_BODY_BYTES} bytes`) };
  }
  const parsed = schema.safeParse(parseJson(body));
  return parsed.success
    ? { kind: 'right', body: parsed.data }
    : { kind: 'wrong', answer: refusal(400, 'Invalid', z.prettifyError(parsed.error)) };
}

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
