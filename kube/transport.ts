/**
 * Requests to the API server over one pool of kept-alive connections, JSON in and out, every failure an `ApiError`.
 * Repeats by itself only what cannot do anything twice: reads that got no answer, and any request refused with 401 (once, with
 * credentials read anew). Knows nothing of kinds.
 * HTTP/1.1 on purpose: a watch then has a connection of its own, and closing that ends just the watch.
 */
import { Agent, type Dispatcher, request as send } from 'undici';
import type { Configuration, Credentials } from './configuration.ts';
import { ApiError, type ApiErrorBody } from './errors.ts';

export interface KubeRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** From the root of the server, for example `/api/v1/namespaces/shop/pods`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
  /** Default `application/json`. */
  readonly contentType?: string;
  /** For the whole answer; default 15 s. For a stream: until its headers have come. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface TransportOptions {
  readonly userAgent?: string;
  readonly timeoutMs?: number;
  /** Told of every answer (status 0: none came), for counting. */
  readonly onAnswer?: (request: KubeRequest, status: number) => void;
}

const defaultTimeoutMs = 15_000;
/** Pauses before the second and third try of a read that got no answer. */
const readRetryPausesMs = [50, 250] as const;

export class Transport {
  readonly #configuration: Configuration;
  readonly #userAgent: string;
  readonly #timeoutMs: number;
  readonly #onAnswer: TransportOptions['onAnswer'];
  #pool: { readonly agent: Agent; readonly credentials: Credentials } | undefined;
  #closed = false;

  constructor(configuration: Configuration, options: TransportOptions = {}) {
    this.#configuration = configuration;
    this.#userAgent = options.userAgent ?? 'meridian';
    this.#timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    this.#onAnswer = options.onAnswer;
  }

  /** The answer's JSON. @throws ApiError */
  async json<T>(request: KubeRequest): Promise<T> {
    const timeoutMs = request.timeoutMs ?? this.#timeoutMs;
    for (let attempt = 0; ; attempt += 1) {
      const deadline = AbortSignal.timeout(timeoutMs);
      const signal = request.signal === undefined ? deadline : AbortSignal.any([request.signal, deadline]);
      try {
        const answer = await this.#send(request, signal);
        return (await answer.body.json()) as T;
      } catch (error) {
        const failure = asApiError(error, request, deadline, timeoutMs);
        const pauseMs = readRetryPausesMs[attempt];
        if (request.method !== 'GET' || failure.reason !== 'Unreachable' || pauseMs === undefined) throw failure;
        if (request.signal?.aborted === true) throw failure;
        await new Promise((resolve) => setTimeout(resolve, pauseMs * (0.5 + Math.random())));
      }
    }
  }

  /** The answer's text, as `/readyz` and logs give it. @throws ApiError */
  async text(request: KubeRequest): Promise<string> {
    const timeoutMs = request.timeoutMs ?? this.#timeoutMs;
    const deadline = AbortSignal.timeout(timeoutMs);
    const signal = request.signal === undefined ? deadline : AbortSignal.any([request.signal, deadline]);
    try {
      const answer = await this.#send(request, signal);
      return await answer.body.text();
    } catch (error) {
      throw asApiError(error, request, deadline, timeoutMs);
    }
  }

  /**
   * An answer that goes on: chunks as they come. No time limit after the headers; the caller watches over that and ends it by `signal`.
   * @throws ApiError before the first chunk; afterwards whatever breaks the connection.
   */
  async stream(request: KubeRequest & { readonly signal: AbortSignal }): Promise<AsyncIterable<Uint8Array>> {
    const timeoutMs = request.timeoutMs ?? this.#timeoutMs;
    const headers = new AbortController();
    const timer = setTimeout(() => headers.abort(), timeoutMs);
    try {
      const answer = await this.#send(request, AbortSignal.any([request.signal, headers.signal]));
      return answer.body;
    } catch (error) {
      throw asApiError(error, request, headers.signal, timeoutMs);
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const pool = this.#pool;
    this.#pool = undefined;
    await pool?.agent.destroy();
  }

  async #send(request: KubeRequest, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    for (let refresh = false; ; refresh = true) {
      const credentials = await this.#configuration.credentials(refresh);
      const answer = await this.#sendOnce(request, signal, credentials);
      if (answer.statusCode < 400) return answer;
      const failure = await refusal(answer, request);
      if (answer.statusCode !== 401 || refresh) throw failure;
    }
  }

  async #sendOnce(
    request: KubeRequest,
    signal: AbortSignal,
    credentials: Credentials,
  ): Promise<Dispatcher.ResponseData> {
    let status = 0;
    try {
      const answer = await send(urlOf(this.#configuration.server, request), {
        dispatcher: this.#agentFor(credentials),
        method: request.method,
        headers: {
          accept: 'application/json',
          'user-agent': this.#userAgent,
          ...(credentials.token === undefined ? {} : { authorization: `Bearer ${credentials.token}` }),
          ...(request.body === undefined ? {} : { 'content-type': request.contentType ?? 'application/json' }),
        },
        body: request.body === undefined ? null : JSON.stringify(request.body),
        signal,
        headersTimeout: 0,
        bodyTimeout: 0,
      });
      status = answer.statusCode;
      return answer;
    } finally {
      this.#onAnswer?.(request, status);
    }
  }

  #agentFor(credentials: Credentials): Agent {
    if (this.#closed) throw new Error('transport is closed');
    if (this.#pool !== undefined && sameTls(this.#pool.credentials, credentials)) return this.#pool.agent;
    const previous = this.#pool?.agent;
    const agent = new Agent({
      allowH2: false,
      keepAliveTimeout: 30_000,
      connect: {
        timeout: 5_000,
        rejectUnauthorized: credentials.verifyServer,
        ...(credentials.ca === undefined ? {} : { ca: credentials.ca }),
        ...credentials.clientCertificate,
        ...(credentials.serverName === undefined ? {} : { servername: credentials.serverName }),
      },
    });
    this.#pool = { agent, credentials };
    // Lets requests under way, watches too, end by themselves.
    void previous?.close().catch(() => undefined);
    return agent;
  }
}

const sameTls = (one: Credentials, other: Credentials): boolean =>
  one.ca === other.ca &&
  one.clientCertificate?.cert === other.clientCertificate?.cert &&
  one.clientCertificate?.key === other.clientCertificate?.key &&
  one.verifyServer === other.verifyServer &&
  one.serverName === other.serverName;

function urlOf(server: string, request: KubeRequest): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(request.query ?? {})) if (value !== undefined) query.set(name, `${value}`);
  return query.size === 0 ? `${server}${request.path}` : `${server}${request.path}?${query.toString()}`;
}

const described = (request: KubeRequest): string => `${request.method} ${request.path}`;

async function refusal(answer: Dispatcher.ResponseData, request: KubeRequest): Promise<ApiError> {
  const text = await answer.body.text();
  const retryAfter = Number(answer.headers['retry-after']);
  const fromHeader = Number.isFinite(retryAfter) ? { details: { retryAfterSeconds: retryAfter } } : {};
  try {
    return new ApiError(answer.statusCode, described(request), {
      ...fromHeader,
      ...(JSON.parse(text) as ApiErrorBody),
    });
  } catch {
    return new ApiError(answer.statusCode, described(request), { ...fromHeader, message: text.slice(0, 500) });
  }
}

function asApiError(error: unknown, request: KubeRequest, deadline: AbortSignal, timeoutMs: number): ApiError {
  if (error instanceof ApiError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const named = described(request);
  if (request.signal?.aborted === true)
    return new ApiError(0, named, { reason: 'Aborted', message: `${named}: given up` }, { cause: error });
  if (deadline.aborted)
    return new ApiError(
      0,
      named,
      { reason: 'Timeout', message: `${named}: no answer in ${timeoutMs} ms` },
      { cause: error },
    );
  return new ApiError(0, named, { reason: 'Unreachable', message: `${named}: ${message}` }, { cause: error });
}
