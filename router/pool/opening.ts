/**
 * One connection of a pool's, from the wish for it until it is there: where the member is full, one that another role has no use for is
 * closed, and the member asked again once it has noticed. Leaves to others: how a connection is opened (connect.ts), who gets it (pool.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { MemberRefusal, type OpenedConnection } from './connect.ts';

export interface Opening {
  connect(): Promise<OpenedConnection>;
  /** A connection that another role has no use for is closed. False where there is none. */
  makeRoom(): boolean;
  /** Somebody still waits for it. */
  isWanted(): boolean;
  now(): number;
}

/**
 * So many at once: on a slow machine, or one that has much else to do, each of a hundred would take longer than one may, and the next
 * hundred as well.
 */
export const maxOpening = 24;

/** Between two questions whether a place is free. */
const roomMs = 20;
/** A member that has much to do takes so long to notice that a connection was closed: none is closed in addition before. */
const noticeMs = 1_000;

/**
 * Undefined where nobody waits for it any more.
 * @throws MemberRefusal, or an Error when the member can't be reached in time.
 */
export async function openConnection(opening: Opening): Promise<OpenedConnection | undefined> {
  let roomMadeAtMs = Number.NEGATIVE_INFINITY;
  for (;;)
    try {
      return await opening.connect();
    } catch (error) {
      if (!(error instanceof MemberRefusal) || error.sqlstate !== '53300') throw error;
      const nowMs = opening.now();
      if (nowMs - roomMadeAtMs > noticeMs) {
        if (!opening.makeRoom()) throw error;
        roomMadeAtMs = nowMs;
      }
      await sleep(roomMs);
      if (!opening.isWanted()) return undefined;
    }
}
