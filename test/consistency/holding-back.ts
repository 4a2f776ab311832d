/** Holds followers back, one after the other and now and then all of them: their replay stands still, or lags by a fixed time. */
import { setTimeout as sleep } from 'node:timers/promises';
import { memberPaths } from '#core/names.ts';
import { agentRole } from '#core/roles.ts';
import type { Installation } from '../faults/installation.ts';
import type { Disturbance } from './disturbed.ts';

const PAUSED_MS = 2_500;
const RUNNING_MS = 1_500;
const DELAY = '700ms';

export interface HoldingBackOptions {
  /** Members come and go: who can't be reached is left alone. */
  readonly isFailingOver?: boolean;
}

export class HoldingBack implements Disturbance {
  readonly #installation: Installation;
  readonly #isFailingOver: boolean;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** How many times one was. */
  held = 0;
  hasFailed = false;

  constructor(installation: Installation, { isFailingOver = false }: HoldingBackOptions = {}) {
    this.#installation = installation;
    this.#isFailingOver = isFailingOver;
  }

  async start(): Promise<void> {
    if ((await this.#followers()).length === 0) throw new Error('there are no followers to hold back');
    this.#running = this.#alternate();
    // It is awaited when this is stopped.
    this.#running.catch(() => {
      this.hasFailed = true;
    });
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #followers(): Promise<string[]> {
    const [authority, members] = await Promise.all([this.#installation.authority(), this.#installation.members()]);
    return members.map(({ name }) => name).filter((name) => name !== authority?.member);
  }

  async #alternate(): Promise<void> {
    for (let turn = 0; !this.#stop.signal.aborted; turn++) await this.#turn(turn);
  }

  async #turn(turn: number): Promise<void> {
    const followers = await this.#followers();
    const turns = [...followers.map((name) => [name]), followers];
    const held = turns[turn % turns.length] ?? [];
    const isDelayed = turn % 2 === 1;
    try {
      const done = await this.#each(held, isDelayed ? delay(DELAY) : ['select pg_wal_replay_pause()']);
      this.held += done;
      await sleep(PAUSED_MS, undefined, { signal: this.#stop.signal }).catch(() => {});
    } finally {
      await this.#each(held, isDelayed ? delay('0') : ['select pg_wal_replay_resume()']);
    }
    await sleep(RUNNING_MS, undefined, { signal: this.#stop.signal }).catch(() => {});
  }

  /** How many did it. */
  async #each(pods: readonly string[], statements: readonly string[]): Promise<number> {
    const tried = pods.map((pod) => this.#sql(pod, statements));
    if (!this.#isFailingOver) return (await Promise.all(tried)).length;
    return (await Promise.allSettled(tried)).filter(({ status }) => status === 'fulfilled').length;
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
