/**
 * Talks to members' agents over mutual TLS, dialled by pod address: `GET /v1/status`, `PUT /v1/orders`, `POST /v1/authority`
 * and `POST /v1/fence`.
 * Whoever answers must prove with its certificate's URI that it is the member meant; a pod address is reused soon after a pod
 * is gone. Says what happened and decides nothing.
 * Invariant: a request has a deadline, and an answer a size limit: a stuck member costs its own place in a round only.
 */
import { Agent, type Dispatcher } from 'undici';
import { identityOfSubjectAltName } from '#core/identity.ts';
import { ports } from '#core/names.ts';
import {
  type AuthorityAnswer,
  type AuthorityQuestion,
  authorityAnswerSchema,
  type Fenced,
  type FenceQuestion,
  type FenceRefusal,
  fencedSchema,
  fenceRefusalSchema,
} from '#core/protocol/authority.ts';
import { type Orders, type OrdersRefusal } from '#core/protocol/orders.ts';
import { type AgentStatus, agentStatusSchema } from '#core/protocol/status.ts';

/** Where an agent is, and who it must be. */
export interface AgentTarget {
  readonly namespace: string;
  readonly keyspace: string;
  /** Pod name. */
  readonly member: string;
  /** Pod address. */
  readonly address: string;
}

/** The operator's own certificate for one keyspace, and whom it trusts there. */
export interface OperatorCredentials {
  readonly certificate: string;
  readonly privateKey: string;
  readonly bundle: string;
}

export type StatusAnswer =
  | { readonly kind: 'status'; readonly status: AgentStatus }
  | { readonly kind: 'silent'; readonly why: string };

export type OrdersAnswer =
  | { readonly kind: 'taken' }
  | { readonly kind: 'refused'; readonly refusal: OrdersRefusal }
  | { readonly kind: 'unknown'; readonly why: string };

export type AuthorityReply =
  | { readonly kind: 'answer'; readonly answer: AuthorityAnswer }
  | { readonly kind: 'silent'; readonly why: string };

export type FenceReply =
  | { readonly kind: 'fenced'; readonly fenced: Fenced }
  | { readonly kind: 'refused'; readonly refusal: FenceRefusal }
  /** The promise may have been made. */
  | { readonly kind: 'unknown'; readonly why: string };

const defaultTimeoutMs = 2_000;
const maxAnswerBytes = 1 << 20;
/** Connections of a member that is gone are forgotten after this. */
const idleMs = 60_000;

interface Connection {
  readonly agent: Agent;
  readonly credentials: OperatorCredentials;
  lastUsedMs: number;
}

export class AgentClient {
  readonly #connections = new Map<string, Connection>();
  readonly #port: number;
  readonly #timeoutMs: number;

  /**
   * @param options.port Other than 8420 in tests only.
   * @param options.timeoutMs For an answer, the connection included; default 2 s.
   */
  constructor(options: { readonly port?: number; readonly timeoutMs?: number } = {}) {
    this.#port = options.port ?? ports.agentApi;
    this.#timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
  }

  async status(target: AgentTarget, credentials: OperatorCredentials): Promise<StatusAnswer> {
    try {
      const { statusCode, body } = await this.#request(target, credentials, { method: 'GET', path: '/v1/status' });
      if (statusCode !== 200) return { kind: 'silent', why: `its agent answered ${statusCode}` };
      const parsed = agentStatusSchema.safeParse(JSON.parse(body));
      if (!parsed.success)
        return { kind: 'silent', why: `its agent's answer is not understood: ${parsed.error.message}` };
      if (parsed.data.member.name !== target.member)
        return { kind: 'silent', why: `its agent says that it is ${parsed.data.member.name}` };
      return { kind: 'status', status: parsed.data };
    } catch (error) {
      return { kind: 'silent', why: whyOf(error, this.#timeoutMs) };
    }
  }

  async authority(
    target: AgentTarget,
    credentials: OperatorCredentials,
    question: AuthorityQuestion,
  ): Promise<AuthorityReply> {
    try {
      const { statusCode, body } = await this.#post(target, credentials, '/v1/authority', question);
      if (statusCode !== 200) return { kind: 'silent', why: `its agent answered ${statusCode}` };
      const parsed = authorityAnswerSchema.safeParse(JSON.parse(body));
      if (!parsed.success)
        return { kind: 'silent', why: `its agent's answer is not understood: ${parsed.error.message}` };
      if (parsed.data.member.name !== target.member)
        return { kind: 'silent', why: `its agent says that it is ${parsed.data.member.name}` };
      return { kind: 'answer', answer: parsed.data };
    } catch (error) {
      return { kind: 'silent', why: whyOf(error, this.#timeoutMs) };
    }
  }

  /** @param timeoutMs A fence is answered within 1.5 s, if only by `Busy`; the rest is for the way. */
  async fence(
    target: AgentTarget,
    credentials: OperatorCredentials,
    question: FenceQuestion,
    timeoutMs: number,
  ): Promise<FenceReply> {
    try {
      const { statusCode, body } = await this.#post(target, credentials, '/v1/fence', question, timeoutMs);
      const json: unknown = JSON.parse(body);
      if (statusCode !== 200) {
        const refusal = fenceRefusalSchema.safeParse(json);
        return refusal.success
          ? { kind: 'refused', refusal: refusal.data }
          : { kind: 'unknown', why: `its agent answered ${statusCode}: ${body.slice(0, 200)}` };
      }
      const fenced = fencedSchema.safeParse(json);
      if (!fenced.success)
        return { kind: 'unknown', why: `its agent's answer is not understood: ${fenced.error.message}` };
      return { kind: 'fenced', fenced: fenced.data };
    } catch (error) {
      return { kind: 'unknown', why: whyOf(error, timeoutMs) };
    }
  }

  /** `unknown` when no answer came: the orders may have been taken. */
  async order(target: AgentTarget, credentials: OperatorCredentials, orders: Orders): Promise<OrdersAnswer> {
    try {
      const { statusCode, body } = await this.#request(target, credentials, {
        method: 'PUT',
        path: '/v1/orders',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(orders),
      });
      if (statusCode < 300) return { kind: 'taken' };
      return { kind: 'refused', refusal: refusalOf(statusCode, body) };
    } catch (error) {
      return { kind: 'unknown', why: whyOf(error, this.#timeoutMs) };
    }
  }

  async close(): Promise<void> {
    const agents = [...this.#connections.values()].map(({ agent }) => agent);
    this.#connections.clear();
    await Promise.all(agents.map((agent) => agent.destroy()));
  }

  #post(
    target: AgentTarget,
    credentials: OperatorCredentials,
    path: string,
    body: object,
    timeoutMs?: number,
  ): Promise<{ statusCode: number; body: string }> {
    return this.#request(
      target,
      credentials,
      { method: 'POST', path, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) },
      timeoutMs,
    );
  }

  async #request(
    target: AgentTarget,
    credentials: OperatorCredentials,
    request: Pick<Dispatcher.RequestOptions, 'method' | 'path'> & {
      readonly headers?: Record<string, string>;
      readonly body?: string;
    },
    timeoutMs = this.#timeoutMs,
  ): Promise<{ statusCode: number; body: string }> {
    const dispatcher = this.#connection(target, credentials);
    const { statusCode, body } = await dispatcher.request({
      ...request,
      origin: `https://${hostOf(target.address)}:${this.#port}`,
      signal: AbortSignal.timeout(timeoutMs),
    });
    return { statusCode, body: await textWithin(body, maxAnswerBytes) };
  }

  /** One per member: its certificate check names the member. Made anew when our own certificate changes. */
  #connection(target: AgentTarget, credentials: OperatorCredentials): Agent {
    const key = `${target.namespace}/${target.keyspace}/${target.member}@${target.address}`;
    const now = performance.now();
    const present = this.#connections.get(key);
    if (present !== undefined && sameCredentials(present.credentials, credentials)) {
      present.lastUsedMs = now;
      return present.agent;
    }
    if (present !== undefined) void present.agent.close().catch(() => undefined);
    this.#forgetIdle(now);
    const agent = new Agent({
      connections: 2,
      connectTimeout: this.#timeoutMs,
      keepAliveTimeout: idleMs,
      connect: {
        cert: credentials.certificate,
        key: credentials.privateKey,
        ca: credentials.bundle,
        minVersion: 'TLSv1.3',
        // Addresses say nothing: only the URI in the certificate does. Node calls this after the chain was verified.
        checkServerIdentity: (_host, certificate) => wrongPeer(target, certificate.subjectaltname),
      },
    });
    this.#connections.set(key, { agent, credentials, lastUsedMs: now });
    return agent;
  }

  #forgetIdle(now: number): void {
    for (const [key, connection] of this.#connections) {
      if (now - connection.lastUsedMs < idleMs) continue;
      this.#connections.delete(key);
      void connection.agent.close().catch(() => undefined);
    }
  }
}

/** An error when the certificate is not that of the member meant. */
export function wrongPeer(target: AgentTarget, subjectAltName: string | undefined): Error | undefined {
  const identity = identityOfSubjectAltName(subjectAltName);
  if (
    identity?.kind === 'member' &&
    identity.namespace === target.namespace &&
    identity.keyspace === target.keyspace &&
    identity.member === target.member
  )
    return undefined;
  return new Error(
    `the certificate at ${target.address} is not that of member ${target.member} (${subjectAltName ?? 'no names'})`,
  );
}

const sameCredentials = (a: OperatorCredentials, b: OperatorCredentials): boolean =>
  a.certificate === b.certificate && a.privateKey === b.privateKey && a.bundle === b.bundle;

const hostOf = (address: string): string => (address.includes(':') ? `[${address}]` : address);

async function textWithin(body: Dispatcher.ResponseData['body'], maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Error(`the answer is longer than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function refusalOf(statusCode: number, body: string): OrdersRefusal {
  try {
    const parsed = JSON.parse(body) as Partial<OrdersRefusal>;
    if (typeof parsed.code === 'string' && typeof parsed.message === 'string')
      return { code: parsed.code, message: parsed.message };
  } catch {
    // Not JSON: below.
  }
  return { code: 'Invalid', message: `its agent answered ${statusCode}: ${body.slice(0, 200)}` };
}

function whyOf(error: unknown, timeoutMs: number): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`;
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  return `${error.message}${cause}`;
}
