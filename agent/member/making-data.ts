/**
 * The steps that make a data directory, as the member takes them: initialise, copy, and the check that a directory is the
 * one that this member's promise was made beside. How each is done is in `agent/postgres`; when, in `plan.ts`.
 */
import type { AgentConfiguration } from '#agent/configuration.ts';
import type { Logger } from '#agent/log.ts';
import { type CloneProgress, clone } from '#agent/postgres/clone.ts';
import type { DataDirectory } from '#agent/postgres/data-directory.ts';
import { initialise } from '#agent/postgres/initialise.ts';
import type { PromiseFile } from '#agent/promise/file.ts';
import type { Upstream } from '#agent/tunnel/upstream.ts';

export interface MakingDataOptions {
  readonly configuration: AgentConfiguration;
  readonly data: DataDirectory;
  readonly env: Readonly<Record<string, string>>;
  readonly promise: PromiseFile;
  readonly upstream: Upstream;
  readonly log: Logger;
}

export class MakingData {
  readonly #options: MakingDataOptions;
  #progress: CloneProgress | undefined;

  constructor(options: MakingDataOptions) {
    this.#options = options;
  }

  /** Of the copy that is being made; undefined when none is. */
  get progress(): CloneProgress | undefined {
    return this.#progress;
  }

  async initialise(database: string, signal: AbortSignal): Promise<void> {
    const { data, env, log } = this.#options;
    const startedAt = performance.now();
    await initialise(data, database, env, signal);
    log.info({ tookMs: Math.round(performance.now() - startedAt) }, 'initialised');
  }

  /** From where the upstream is aimed. */
  async clone(signal: AbortSignal): Promise<void> {
    const { configuration, data, env, promise, upstream, log } = this.#options;
    const startedAt = performance.now();
    try {
      await clone({
        data,
        incarnation: promise.current.incarnation,
        upstreamSockets: configuration.paths.upstreamSockets,
        port: configuration.ports.postgres,
        env,
        signal,
        onProgress: (progress) => {
          this.#progress = progress;
        },
      });
    } finally {
      this.#progress = undefined;
      // The copy's second process ends with its connection.
      upstream.closeAll();
    }
    log.info({ tookMs: Math.round(performance.now() - startedAt) }, 'cloned');
  }

  /** @throws for a data directory that isn't the one this promise was made beside: it must not be started. */
  async rememberSystemIdentifier(): Promise<void> {
    const { data, promise } = this.#options;
    const found = await data.systemIdentifier();
    const known = promise.current.systemIdentifier;
    if (known !== '' && known !== found) {
      throw new Error(`the data directory has system identifier ${found}, this member's is ${known}`);
    }
    if (known === '') await promise.update((current) => ({ ...current, systemIdentifier: found }));
  }
}
