/**
 * What all clients of a worker together may have lying here of messages that aren't whole, wait for their turn, or are under way,
 * beyond a little each. Where they are held is FrameSplitter's, Inbox' and the session's affair; this only counts.
 *
 * Invariant: a client has no more than what is left for everybody else, so that however many fill it there is room for one that is small.
 * Source: Choudhury and Hahne, "Dynamic Queue Length Thresholds" (1998), with a factor of 1.
 */
import { maxClientMessageBytes } from './codes.ts';

/** Nobody counts with less. */
const freeBytes = 64 * 1024;

export class MessageBudget {
  readonly #limit: number;
  #held = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get held(): number {
    return this.#held;
  }

  /** `charged`: what the client counted with until now. What it counts with now, or undefined (and nothing has changed) where that is too much. */
  recharge(charged: number, bytes: number): number | undefined {
    const charge = Math.max(0, bytes - freeBytes);
    if (charge === charged) return charge;
    const held = this.#held - charged + charge;
    if (charge > charged && charge > this.#limit - held) return undefined;
    this.#held = held;
    return charge;
  }
}

/** A quarter of the memory that the process may have, for all workers together; 1 GiB each where nobody says, or there is more. */
export function usualMessageBytes(processBytes: number, workers: number): number {
  const most = 4 * maxClientMessageBytes;
  return processBytes > 0 ? Math.min(most, Math.floor(processBytes / 4 / workers)) : most;
}
