/**
 * The workers of one router, as the admin database sees them: a question goes to all of them, this one too, and the answers come
 * together. Over a channel of the process, as cancels go. A worker that doesn't answer in time is left out, and that is said.
 */
import { BroadcastChannel } from 'node:worker_threads';
import type { Action } from './command.ts';
import type { WorkerView } from './view.ts';

export type Question =
  | { readonly kind: 'view'; readonly withSockets: boolean }
  | { readonly kind: 'act'; readonly action: Action };

export interface BusOptions {
  readonly worker: number;
  readonly workers: number;
  /** This worker's answer. */
  readonly answer: (question: Question) => Promise<WorkerView>;
  readonly timeoutMs: number;
}

type Message =
  | { readonly kind: 'ask'; readonly from: number; readonly number: number; readonly question: Question }
  | { readonly kind: 'tell'; readonly to: number; readonly number: number; readonly view: WorkerView };

interface Asked {
  readonly views: WorkerView[];
  readonly done: () => void;
}

export class AdminBus {
  readonly #options: BusOptions;
  #channel: BroadcastChannel | undefined;
  #number = 0;
  readonly #asked = new Map<number, Asked>();

  constructor(options: BusOptions) {
    this.#options = options;
  }

  /** @param name the same for all workers of one router. */
  start(name: string): void {
    if (this.#options.workers < 2) return;
    this.#channel = new BroadcastChannel(`meridian admin ${name}`);
    this.#channel.unref();
    this.#channel.addEventListener('message', (event) => this.#hear((event as unknown as { data: Message }).data));
  }

  stop(): void {
    this.#channel?.close();
    this.#channel = undefined;
    for (const { done } of this.#asked.values()) done();
  }

  /** Answers in the order of the workers. */
  async ask(question: Question): Promise<readonly WorkerView[]> {
    const { worker, workers, timeoutMs } = this.#options;
    const own = this.#options.answer(question);
    const views: WorkerView[] = [];
    if (this.#channel !== undefined && workers > 1) {
      const number = ++this.#number;
      const all = Promise.withResolvers<void>();
      this.#asked.set(number, { views, done: all.resolve });
      const timer = setTimeout(all.resolve, timeoutMs);
      this.#channel.postMessage({ kind: 'ask', from: worker, number, question } satisfies Message);
      await all.promise;
      clearTimeout(timer);
      this.#asked.delete(number);
    }
    return [...views, await own].toSorted((one, other) => one.worker - other.worker);
  }

  #hear(message: Message): void {
    if (message.kind === 'ask') {
      const { from, number, question } = message;
      void this.#options
        .answer(question)
        .then((view) => this.#channel?.postMessage({ kind: 'tell', to: from, number, view } satisfies Message))
        // Whoever asked says that one is missing.
        .catch(() => undefined);
      return;
    }
    const asked = message.to === this.#options.worker ? this.#asked.get(message.number) : undefined;
    if (asked === undefined) return;
    asked.views.push(message.view);
    if (asked.views.length >= this.#options.workers - 1) asked.done();
  }
}
