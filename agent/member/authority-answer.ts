/**
 * The answer to "who has authority, as far as you know" (`POST /v1/authority`): put together from memory alone, so that it
 * comes at once whatever Postgres, the disk or the API server is doing. Whoever waits for a change is answered when there
 * is one: ages and remaining times are none.
 */
import type { AuthorityAnswer, AuthorityQuestion } from '#core/protocol/authority.ts';

export type AuthorityFacts = Omit<AuthorityAnswer, 'version'>;

/** Some of what is shown changes without anybody saying so (a lease, a canary's age): looked at this often while someone waits. */
const LOOK_MS = 50;

export class AuthorityAnswers {
  readonly #facts: () => AuthorityFacts;
  #version = 1;
  #shown = '';
  readonly #waiting = new Set<() => void>();

  /** @param facts Asked anew each time. */
  constructor(facts: () => AuthorityFacts) {
    this.#facts = facts;
  }

  now(): AuthorityAnswer {
    const facts = this.#facts();
    const shown = JSON.stringify(lasting(facts));
    if (shown !== this.#shown) {
      if (this.#shown !== '') this.#version += 1;
      this.#shown = shown;
    }
    return { ...facts, version: this.#version };
  }

  /** With a version and a time to wait: once the version is another one, or the time is over. */
  async answer({ after, waitMs = 0 }: AuthorityQuestion): Promise<AuthorityAnswer> {
    const giveUpAt = performance.now() + waitMs;
    for (;;) {
      const answer = this.now();
      const leftMs = giveUpAt - performance.now();
      if (after === undefined || answer.version !== after || leftMs <= 0) return answer;
      await this.#changed(Math.min(leftMs, LOOK_MS));
    }
  }

  /** Something may have changed: those who wait look again. */
  wake(): void {
    for (const wakeUp of this.#waiting) wakeUp();
  }

  #changed(withinMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, withinMs);
      this.#waiting.add(done);
    });
  }
}

/** Without ages and remaining times. Whether there is a lease at all stays. */
function lasting({ member, shardUid, region, state, promise, known, primary, follower }: AuthorityFacts): object {
  const { epoch, grantee, generation } = promise;
  return {
    member,
    shardUid,
    region,
    state,
    promise: { epoch, grantee, generation },
    known,
    ...(primary === undefined
      ? {}
      : {
          primary: {
            ...primary,
            leaseRemainingMs: primary.leaseRemainingMs === null ? null : primary.leaseRemainingMs > 0,
          },
        }),
    ...(follower === undefined ? {} : { follower: { source: follower.source, epoch: follower.epoch } }),
  };
}
