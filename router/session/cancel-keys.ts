/**
 * The keys that clients cancel with: the router's own, since a backend's mean nothing where backends are shared.
 * A key ends with its session. A wrong key is ignored without a word, as in Postgres.
 */
import { randomBytes } from 'node:crypto';

export interface Cancellable {
  cancel(): void;
}

export interface CancelKey {
  readonly processId: number;
  readonly secret: number;
}

export class CancelKeys {
  readonly #sessions = new Map<number, { readonly secret: number; readonly session: Cancellable }>();

  issue(session: Cancellable): CancelKey {
    for (;;) {
      const random = randomBytes(8);
      // Positive, so that it looks like a process id to whoever prints it.
      const processId = random.readInt32BE(0) & 0x7fffffff;
      const secret = random.readInt32BE(4);
      if (processId === 0 || this.#sessions.has(processId)) continue;
      this.#sessions.set(processId, { secret, session });
      return { processId, secret };
    }
  }

  revoke(key: CancelKey): void {
    this.#sessions.delete(key.processId);
  }

  cancel(processId: number, secret: number): boolean {
    const found = this.#sessions.get(processId);
    if (found === undefined || found.secret !== secret) return false;
    found.session.cancel();
    return true;
  }
}
