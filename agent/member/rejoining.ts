/**
 * What a member's data needs before it can follow by its orders: asked of `agent/rejoin` once for each history that comes
 * with orders, and remembered for as long as data and history are the same. And the way back itself.
 */
import type { AgentConfiguration } from '#agent/configuration.ts';
import type { Logger } from '#agent/log.ts';
import type { DataDirectory } from '#agent/postgres/data-directory.ts';
import { assessRejoin, type DivergedStatus, type RejoinNeed, wholePast } from '#agent/rejoin/assess.ts';
import { divergenceOf } from '#agent/rejoin/divergence.ts';
import { positionOnDisk } from '#agent/rejoin/position.ts';
import { forgetRejoin, readRejoin } from '#agent/rejoin/rejoin-file.ts';
import { rewind } from '#agent/rejoin/rewind.ts';
import { isMisled } from '#agent/rejoin/timelines.ts';
import { formatLsn } from '#core/lsn.ts';
import type { Orders } from '#core/protocol/orders.ts';
import type { AgentStatus } from '#core/protocol/status.ts';

export type RejoinView =
  | RejoinNeed
  /** A running standby is on its way to a timeline that nobody is on: another start finds the right one. */
  | { readonly kind: 'Misled' }
  /** A standby that recovers, and may come to follow: it is asked again when it is ready. */
  | { readonly kind: 'Recovering' }
  /** A standby that recovers, and never becomes whole by its primary's log: it is asked again when it is down. */
  | { readonly kind: 'NeverWhole' };

export interface RejoiningOptions {
  readonly data: DataDirectory;
  readonly configuration: Pick<AgentConfiguration, 'paths' | 'ports'>;
  readonly log: Logger;
}

const UNKNOWN_AGAIN_MS = 1_000;

export class Rejoining {
  readonly #options: RejoiningOptions;
  /** The last one that was completed. */
  #rejoined: AgentStatus['rejoined'];
  #found: { readonly key: string; readonly need: RejoinView; readonly at: number } | undefined;

  constructor(options: RejoiningOptions) {
    this.#options = options;
  }

  get rejoined(): AgentStatus['rejoined'] {
    return this.#rejoined;
  }

  /** A rejoin was begun and hasn't come to its end: this data must not be started. */
  async isBegun(): Promise<boolean> {
    return (await readRejoin(this.#options.configuration.paths.rejoin)) !== undefined;
  }

  /** Undefined until `assess` has answered for these orders and this data. */
  view(orders: Orders): RejoinView | undefined {
    if (this.#found?.key !== keyOf(orders)) return undefined;
    const { need, at } = this.#found;
    return need.kind === 'Unknown' && performance.now() - at > UNKNOWN_AGAIN_MS ? undefined : need;
  }

  /** For people and for the operator. */
  get diverged(): DivergedStatus | undefined {
    const need = this.#found?.need;
    return need === undefined || !('diverged' in need) ? undefined : need.diverged;
  }

  /** @param replayed Of a running standby. */
  async assess(orders: Orders, replayed: string | undefined): Promise<RejoinView> {
    const need =
      replayed === undefined
        ? await assessRejoin(this.#options.data, orders, this.#options.configuration.paths.rejoin)
        : await this.#assessRunning(orders, replayed);
    this.#remember(orders, need);
    return need;
  }

  /** Of a standby that isn't ready: by what it has to reach before it is. */
  async assessRecovering(orders: Orders): Promise<void> {
    const isNever = wholePast(await this.#options.data.control(), orders) !== undefined;
    this.#remember(orders, { kind: isNever ? 'NeverWhole' : 'Recovering' });
  }

  /** Back to the primary's history, with the upstream aimed for it; Postgres is down. @throws what is worth another try. */
  async rewind(orders: Orders, signal: AbortSignal): Promise<void> {
    const { data, configuration, log } = this.#options;
    const { paths, ports } = configuration;
    const outcome = await rewind({
      data,
      orders,
      paths,
      port: ports.postgres,
      signal,
      onDiverged: (diverged) => this.#remember(orders, { kind: 'Interrupted', diverged }),
      log,
    });
    if (outcome.kind === 'NeedsCopy') {
      log.warn({ reason: outcome.reason }, 'not rewound: another copy is needed');
      this.#remember(orders, outcome);
      return;
    }
    log.info({ ...outcome.rejoined }, 'rewound');
    this.#rejoined = outcome.rejoined;
    this.forget();
  }

  /** The data has gone, and with it whatever was begun on it. */
  async dropNotes(): Promise<void> {
    await forgetRejoin(this.#options.configuration.paths.rejoin);
    this.forget();
  }

  /** The data has become another. */
  forget(): void {
    this.#found = undefined;
  }

  #remember(orders: Orders, need: RejoinView): void {
    this.#found = { key: keyOf(orders), need, at: performance.now() };
  }

  async #assessRunning(orders: Orders, replayed: string): Promise<RejoinView> {
    const { data, configuration } = this.#options;
    const position = await positionOnDisk(data, configuration.paths.rejoin, { replayed });
    const divergence = divergenceOf(position, orders);
    if (divergence === undefined) {
      return { kind: (await isMisled(data, position.timeline, orders)) ? 'Misled' : 'Follow' };
    }
    const { timeline, lsn } = position;
    const diverged = { timeline, forkLsn: formatLsn(divergence.forkLsn), lsn, waiting: !orders.mayRewind };
    return { kind: 'Diverged', diverged };
  }
}

const keyOf = ({ epoch, timeline, history, mayRewind, ship }: Orders): string =>
  JSON.stringify([epoch, timeline, history, mayRewind, ship === true]);
