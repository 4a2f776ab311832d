/**
 * The times that the protocol of authority rests on: constants of the protocol, the same in every program, since a member
 * that grants, a primary that relies on it and an operator that waits it out must mean the same (docs/design-traps.md,
 * ambiguity 36). All in milliseconds, on boot-time clocks (CLOCK_BOOTTIME), each party on its own.
 */

/** L: how long a grant runs on the grantor's clock, from its receipt of the request. */
export const leaseMs = 3_000;
/** Taken off on the holder's side for the drift of two clocks over L (500 ppm is 1.5 ms) and for their resolution. */
export const leaseMarginMs = 100;
/** How often a primary asks each follower. */
export const leaseRequestEveryMs = 300;
/** Before the lease runs out: SIGQUIT to the postmaster. */
export const quitBeforeMs = 600;
/** Before the lease runs out: SIGKILL to every process of the container. */
export const killBeforeMs = 200;

/** No serving request and no WAL for this long is what makes a follower doubt its primary. */
export const suspicionMs = 2_000;
/** A primary that hasn't committed a canary for this long isn't serving, unless only followers keep it from that. */
export const canaryMs = 2_000;
/** How much longer each next rank of operator waits. */
export const rankDelayMs = 1_500;
/** A promise without a grantee that is younger belongs to whoever got it: it may still be deciding. */
export const promiseOwnedMs = leaseMs + 3_000;
/** A Postgres that doesn't come to serve for this long after it ended by itself, or fails to start this often, is given up. */
export const restartPatienceMs = 10_000;
export const restartAttempts = 3;

/** k = 0: the Kubernetes Lease of the primary. The taker waits this long on its own clock while it sees it unchanged. */
export const kubernetesLeaseMs = 15_000;

/**
 * How long a router may go by what a primary said of its members, counted from the sending of its question; a primary lets this
 * pass before a member that it leaves out doesn't count any more.
 */
export const membershipHeldMs = 1_000;
