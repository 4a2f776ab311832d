/** Holds followers back, one after the other and now and then all of them: their replay stands still, or lags by a fixed time. */
import { setTimeout as sleep } from 'node:timers/promises';
import { memberPaths } from '#core/names.ts';
import { agentRole } from '#core/roles.ts';
import type { Installation } from '../faults/installation.ts';

const PAUSED_MS = 2_500;
const RUNNING_MS = 1_500;
const DELAY = '700ms';

export class HoldingBack {
  readonly #installation: Installation;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #followers: readonly string[] = [];
  held = 0;

  constructor(installation: Installation) {
    this.#installation = installation;
  }

  async start(): Promise<void> {
    const primary = (await this.#installation.authority())?.member;
    this.#followers = (await this.#installation.members()).map(({ name }) => name).filter((name) => name !== primary);
    if (this.#followers.length === 0) throw new Error('there are no followers to hold back');
    this.#running = this.#alternate();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #alternate(): Promise<void> {
    const turns = [...this.#followers.map((name) => [name]), this.#followers];
    for (let turn = 0; !this.#stop.signal.aborted; turn++) {
      const held = turns[turn % turns.length] ?? [];
      const isDelayed = turn % 2 === 1;
      try {
        await Promise.all(
          held.map((pod) => this.#sql(pod, isDelayed ? delay(DELAY) : ['select pg_wal_replay_pause()'])),
        );
        this.held += held.length;
        await sleep(PAUSED_MS, undefined, { signal: this.#stop.signal }).catch(() => {});
      } finally {
        await Promise.all(
          held.map((pod) => this.#sql(pod, isDelayed ? delay('0') : ['select pg_wal_replay_resume()'])),
        );
      }
      await sleep(RUNNING_MS, undefined, { signal: this.#stop.signal }).catch(() => {});
    }
  }

  async #sql(pod: string, statements: readonly string[]): Promise<void> {
    const psql = ['psql', '-h', memberPaths.postgresSockets, '-U', agentRole, '-d', 'postgres', '-XAtq'];
    const commands = statements.flatMap((statement) => ['-c', statement]);
    await this.#installation.kubectl(['exec', pod, '-c', 'postgres', '--', ...psql, ...commands]);
  }
}

const delay = (time: string): readonly string[] => [
  time === '0'
    ? 'alter system reset recovery_min_apply_delay'
    : `alter system set recovery_min_apply_delay = '${time}'`,
  'select pg_reload_conf()',
];
