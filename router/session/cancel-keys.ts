/**
 * The keys that clients cancel with: the router's own, since a backend's mean nothing where backends are shared. The number that looks
 * like a process id says where the session is, so that whoever gets the cancel can pass it on; the secret says that it may.
 * A key ends with its session. A wrong key is ignored without a word, as in Postgres.
 */
import { createHash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto';

export interface Cancellable {
  cancel(): void;
}

export interface CancelKey {
  readonly processId: number;
  readonly secret: Buffer;
}

/** From protocol 3.2 on secrets may be longer than four bytes; Postgres' own have this many. */
const secretBytes = { short: 4, long: 32 } as const;

/** Positive, so that it looks like a process id to whoever prints it: ten bits for the router, four for its worker, the rest counts. */
const routerBits = 10;
const workerBits = 4;
const sessionBits = 17;

export const maxWorkers = 2 ** workerBits;

/** The ten bits of a router, made from where other routers reach it. Two of one Service may share them: then both are asked. */
export const routerMark = (address: string, port: number): number =>
  createHash('sha256').update(`${address} ${port}`).digest().readUInt16BE(0) >> (16 - routerBits);

export interface KeyPlace {
  readonly router: number;
  readonly worker: number;
}

/** Where the session of a key is. Only as good as who sent it: a made-up number leads to a session whose secret it doesn't know. */
export const placeOf = (processId: number): KeyPlace => ({
  router: (processId >>> (workerBits + sessionBits)) & (2 ** routerBits - 1),
  worker: (processId >>> sessionBits) & (maxWorkers - 1),
});

export class CancelKeys {
  readonly #place: () => KeyPlace;
  readonly #sessions = new Map<number, { readonly secret: Buffer; readonly session: Cancellable }>();

  /** @param place this worker's. */
  constructor(place: () => KeyPlace) {
    this.#place = place;
  }

  /** @param length what the client's protocol allows. */
  issue(session: Cancellable, length: keyof typeof secretBytes): CancelKey {
    const { router, worker } = this.#place();
    const prefix = ((router << workerBits) | worker) << sessionBits;
    // Far fewer clients than numbers, so that one is soon found.
    let processId: number;
    do processId = prefix | randomInt(1, 2 ** sessionBits);
    while (this.#sessions.has(processId));
    const secret = randomBytes(secretBytes[length]);
    this.#sessions.set(processId, { secret, session });
    return { processId, secret };
  }

  revoke(key: CancelKey): void {
    this.#sessions.delete(key.processId);
  }

  /** False where the key is none of this worker's. */
  cancel({ processId, secret }: CancelKey): boolean {
    const found = this.#sessions.get(processId);
    if (found === undefined || found.secret.length !== secret.length || !timingSafeEqual(found.secret, secret))
      return false;
    found.session.cancel();
    return true;
  }
}
