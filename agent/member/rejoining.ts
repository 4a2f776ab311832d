/**
 * What a member's data needs before it can follow by its orders: asked of `agent/rejoin` once for each history that comes
 * with orders, and remembered for as long as data and history are the same.
 */
import type { DataDirectory } from '#agent/postgres/data-directory.ts';
import { assessRejoin, type DivergedStatus, type RejoinNeed } from '#agent/rejoin/assess.ts';
import { divergenceOf } from '#agent/rejoin/divergence.ts';
import { positionOnDisk } from '#agent/rejoin/position.ts';
import { formatLsn } from '#core/lsn.ts';
import type { Orders } from '#core/protocol/orders.ts';

export type RejoinView = RejoinNeed;

const UNKNOWN_AGAIN_MS = 1_000;

export class Rejoining {
  readonly #data: DataDirectory;
  readonly #rejoinFile: string;
  #found: { readonly key: string; readonly need: RejoinNeed; readonly at: number } | undefined;

  constructor(data: DataDirectory, rejoinFile: string) {
    this.#data = data;
    this.#rejoinFile = rejoinFile;
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
        ? await assessRejoin(this.#data, orders, this.#rejoinFile)
        : await this.#assessRunning(orders, replayed);
    this.#found = { key: keyOf(orders), need, at: performance.now() };
    return need;
  }

  /** The data has become another. */
  forget(): void {
    this.#found = undefined;
  }

  async #assessRunning(orders: Orders, replayed: string): Promise<RejoinNeed> {
    const position = await positionOnDisk(this.#data, this.#rejoinFile, { replayed });
    const divergence = divergenceOf(position, orders);
    if (divergence === undefined) return { kind: 'Follow' };
    const { timeline, lsn } = position;
    const diverged = { timeline, forkLsn: formatLsn(divergence.forkLsn), lsn, waiting: !orders.mayRewind };
    return { kind: 'Diverged', diverged };
  }
}

const keyOf = ({ epoch, timeline, history, mayRewind, ship }: Orders): string =>
  JSON.stringify([epoch, timeline, history, mayRewind, ship === true]);
