/**
 * A cancel that is on its way to a backend. Until the member has closed the connection that carried it, the signal may still come:
 * nothing else may be sent to that backend, least of all a COMMIT (docs/design-traps.md, ambiguity 20), and nobody else may get it.
 * Leaves to others: whether a cancel may be sent at all (segment.ts).
 */
import type { RouterContext } from '../context.ts';
import type { Backend } from '../pool/backend.ts';

export class Cancelling {
  readonly #context: RouterContext;
  #underWay: Promise<void> | undefined;

  constructor(context: RouterContext) {
    this.#context = context;
  }

  get isUnderWay(): boolean {
    return this.#underWay !== undefined;
  }

  /** `over`: it has surely arrived, or the backend is closed. Not called where `handOver` was. */
  start(backend: Backend, over: () => void): void {
    this.#context.metrics.add('cancels_forwarded_total');
    backend.wasCancelled = true;
    const underWay = this.#context.cancelAt(backend.identity).catch((error: unknown) => {
      // Whether the signal will still come isn't known: this backend is not to be trusted.
      this.#context.log.warn({ err: error }, 'cancel not sent');
      backend.close('a cancel went astray');
    });
    this.#underWay = underWay;
    void underWay.finally(() => {
      if (this.#underWay !== underWay) return;
      this.#underWay = undefined;
      over();
    });
  }

  /** Whoever lets go of the backend waits for this; undefined where nothing is under way. */
  handOver(): Promise<void> | undefined {
    const underWay = this.#underWay;
    this.#underWay = undefined;
    return underWay;
  }
}
