/**
 * Asks one member's agent for its authority, again and again (`POST /v1/authority`): one question at a time, so that answers come in
 * the order of their questions. The answer is waited for (long poll), so that a stop and a new epoch are known as soon as they are.
 * Leaves to others: what the answers mean (member-words.ts, authority.ts).
 */
import { type Dispatcher, Pool } from 'undici';
import {
  type AuthorityAnswer,
  type AuthorityQuestion,
  authorityAnswerSchema,
  type RouterWord,
} from '#core/protocol/authority.ts';
import type { TlsContexts } from '../tls.ts';
import { memberIdentityCheck } from '../tls.ts';
import type { HorizonClock } from './horizon-clock.ts';

export interface AgentPlace {
  readonly member: string;
  readonly address: string;
  readonly port: number;
}

export interface AskerOptions {
  readonly place: AgentPlace;
  readonly clock: HorizonClock;
  readonly clientContext: () => TlsContexts['client'];
  readonly word: () => RouterWord;
  /** How long the next answer may wait for something new; undefined: it is wanted at once, and again soon. */
  readonly waitMs: () => number | undefined;
  readonly answered: (answer: AuthorityAnswer, sentMs: number) => void;
  readonly failed: (error: Error) => void;
}

/** Over and above what the answer may wait. */
const timeoutMs = 1_000;
/** After a failure. */
const retryMs = 200;
/** While a handover is under way: how often it is told what is still in flight. */
const handoverMs = 20;
/** An agent that answers at once though nothing has changed isn't asked more often. */
const minPauseMs = 5;
const maxAnswerBytes = 64 * 1024;

export class Asker {
  readonly #options: AskerOptions;
  readonly #aborter = new AbortController();
  #dispatcher: Pool | undefined;
  #context: TlsContexts['client'] | undefined;

  constructor(options: AskerOptions) {
    this.#options = options;
    void this.#run();
  }

  get place(): AgentPlace {
    return this.#options.place;
  }

  stop(): void {
    this.#aborter.abort();
    void this.#dispatcher?.destroy().catch(() => undefined);
  }

  /** One last word, on the way out; whether it arrives is not waited for longer than this. */
  async goodbye(word: RouterWord): Promise<void> {
    this.#aborter.abort();
    await this.#ask({ router: word }, AbortSignal.timeout(300)).catch(() => undefined);
    await this.#dispatcher?.destroy().catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { clock, word, waitMs, answered, failed } = this.#options;
    const { signal } = this.#aborter;
    let version: number | undefined;
    while (!signal.aborted) {
      const wait = waitMs();
      const sentMs = clock.earliestMs();
      const startedMs = performance.now();
      let pauseMs: number;
      try {
        const mayWait = wait !== undefined && version !== undefined;
        const answer = await this.#ask(
          { router: word(), ...(mayWait ? { after: version, waitMs: wait } : {}) },
          AbortSignal.any([signal, AbortSignal.timeout((wait ?? 0) + timeoutMs)]),
        );
        if (signal.aborted) return;
        const isNew = answer.version !== version;
        version = answer.version;
        answered(answer, sentMs);
        const spentMs = performance.now() - startedMs;
        pauseMs = wait === undefined ? handoverMs : isNew ? minPauseMs : Math.max(minPauseMs, wait - spentMs);
      } catch (error) {
        if (signal.aborted) return;
        version = undefined;
        pauseMs = retryMs;
        failed(error instanceof Error ? error : new Error(String(error)));
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pauseMs);
        timer.unref();
      });
    }
  }

  async #ask(question: AuthorityQuestion, signal: AbortSignal): Promise<AuthorityAnswer> {
    const { address } = this.#options.place;
    const { statusCode, body } = await this.#connected().request({
      method: 'POST',
      path: '/v1/authority',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(question),
      signal,
    });
    const text = await textWithin(body);
    if (statusCode !== 200) throw new Error(`its agent at ${address} answered ${statusCode}`);
    const answer = authorityAnswerSchema.parse(JSON.parse(text));
    const { member } = this.#options.place;
    if (answer.member.name !== member) throw new Error(`its agent says that it is ${answer.member.name}`);
    return answer;
  }

  /** Addresses say nothing: the URI in the certificate does. Made anew when our own certificate changes. */
  #connected(): Dispatcher {
    const context = this.#options.clientContext();
    if (this.#dispatcher !== undefined && this.#context === context) return this.#dispatcher;
    void this.#dispatcher?.close().catch(() => undefined);
    const { member, address, port } = this.#options.place;
    this.#context = context;
    this.#dispatcher = new Pool(`https://${address.includes(':') ? `[${address}]` : address}:${port}`, {
      connections: 2,
      keepAliveTimeout: 30_000,
      connect: { timeout: timeoutMs, secureContext: context, checkServerIdentity: memberIdentityCheck(member) },
    });
    return this.#dispatcher;
  }
}

async function textWithin(body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) throw new Error(`the answer is longer than ${maxAnswerBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
