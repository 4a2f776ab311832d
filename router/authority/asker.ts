/**
 * Asks one member's agent for its authority, again and again (`POST /v1/authority`): one question at a time, so that answers come in
 * the order of their questions. The answer is waited for (long poll), so that a stop and a new epoch are known as soon as they are.
 * Leaves to others: what the answers mean (member-words.ts, authority.ts).
 */
import { type Dispatcher, Pool } from 'undici';
import { leaseMs } from '#core/authority/timing.ts';
import {
  type AuthorityAnswer,
  type AuthorityQuestion,
  authorityAnswerSchema,
  type RouterWord,
} from '#core/protocol/authority.ts';
import type { Sent } from '../consistency/shard-positions.ts';
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
  readonly answered: (answer: AuthorityAnswer, sent: Sent) => void;
  readonly failed: (error: Error) => void;
}

/**
 * Over and above what the answer may wait. A late one is still worth something, and one that was given up costs a connection: on a
 * machine with too much to do that would only add to it.
 */
const timeoutMs = leaseMs;
const connectMs = 1_000;
/** For the last word. */
const goodbyeMs = 300;
/** After a failure. */
const retryMs = 200;
/** While a handover is under way: how often it is told what is still in flight. */
const handoverMs = 20;
/** An agent that answers at once though nothing has changed isn't asked more often. */
const minPauseMs = 5;
const maxAnswerBytes = 64 * 1024;

export class Asker {
  readonly #options: AskerOptions;
  #isStopped = false;
  /** Of the question that is under way. */
  #aborter: AbortController | undefined;
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
    this.#isStopped = true;
    this.#aborter?.abort();
    void this.#dispatcher?.destroy().catch(() => undefined);
  }

  /** One last word, on the way out; whether it arrives is not waited for longer than this. */
  async goodbye(word: RouterWord): Promise<void> {
    this.#isStopped = true;
    this.#aborter?.abort();
    await this.#ask({ router: word }, goodbyeMs).catch(() => undefined);
    await this.#dispatcher?.destroy().catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { clock, word, waitMs, answered, failed } = this.#options;
    let version: number | undefined;
    while (!this.#isStopped) {
      const wait = waitMs();
      const startedMs = performance.now();
      const sentMs = clock.earliestMs();
      let pauseMs: number;
      try {
        const mayWait = wait !== undefined && version !== undefined;
        const answer = await this.#ask(
          { router: word(), ...(mayWait ? { after: version, waitMs: wait } : {}) },
          (wait ?? 0) + timeoutMs,
        );
        if (this.#isStopped) return;
        const isNew = answer.version !== version;
        version = answer.version;
        answered(answer, { bootMs: sentMs, monotonicMs: startedMs });
        const spentMs = performance.now() - startedMs;
        pauseMs = wait === undefined ? handoverMs : isNew ? minPauseMs : Math.max(minPauseMs, wait - spentMs);
      } catch (error) {
        if (this.#isStopped) return;
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

  async #ask(question: AuthorityQuestion, withinMs: number): Promise<AuthorityAnswer> {
    const { member, address } = this.#options.place;
    const aborter = new AbortController();
    this.#aborter = aborter;
    const timer = setTimeout(() => aborter.abort(new Error(`its agent did not answer in ${withinMs} ms`)), withinMs);
    try {
      const { statusCode, body } = await this.#connected().request({
        method: 'POST',
        path: '/v1/authority',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(question),
        signal: aborter.signal,
      });
      const text = await body.text();
      if (statusCode !== 200) throw new Error(`its agent at ${address} answered ${statusCode}`);
      const answer = authorityAnswerSchema.parse(JSON.parse(text));
      if (answer.member.name !== member) throw new Error(`its agent says that it is ${answer.member.name}`);
      return answer;
    } finally {
      clearTimeout(timer);
    }
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
      maxResponseSize: maxAnswerBytes,
      keepAliveTimeout: 30_000,
      connect: { timeout: connectMs, secureContext: context, checkServerIdentity: memberIdentityCheck(member) },
    });
    return this.#dispatcher;
  }
}
