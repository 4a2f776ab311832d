/** What a session and its loan say to each other: what is to be sent, and what becomes of it. */

import type { RouterError } from '../errors.ts';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import type { Route } from '../exec/route.ts';
import type { SessionLimits } from '../limits/session-limits.ts';
import type { Login } from '../map/logins.ts';
import type { StatementPlan } from '../plan/types.ts';
import type { Backend } from '../pool/backend.ts';
import type { SessionRouting } from './session-routing.ts';
import type { SessionSettings } from './settings.ts';
import type { ClientTransaction } from './transaction.ts';

/** One thing to be sent to a backend, when there is one. */
export interface Request {
  readonly route: Route;
  /** Statements that will be completed, in order; undefined for an empty one. */
  readonly plans: readonly (StatementPlan | undefined)[];
  /** Notes at the backend what it will answer, and gives the bytes. `changed`: as in operationBytes (send.ts). */
  readonly bytes: (backend: Backend, changed: () => void) => Buffer[];
  /** In bytes, about. */
  readonly size: number;
  /** Ends with a ReadyForQuery. */
  readonly ends: boolean;
  readonly isExtended: boolean;
  /** The Sync is the router's, before a message that does without one: the client hears no ReadyForQuery, nor of that message after an error. */
  readonly isImplied?: boolean;
  /** Answered by the router after it, if it went well. */
  readonly trailing: readonly PlannedStatement[];
  /** Runs it once more, where all that came of it is that the plan of a prepared statement was of former tables. */
  readonly again?: () => void;
  /** Its transaction is the router's own, and may be about one tenant after the other. */
  readonly repins?: boolean;
  /** Limits have counted it. */
  readonly isSpent?: boolean;
  /** The router's own, on the client's behalf: nothing of the answer is passed on. Exactly one of the two is called. */
  readonly silent?: {
    answered(answer: SilentAnswer): void;
    /** Not sent, or lost: what the client should be told. */
    failed(error: RouterError): void;
  };
}

export interface SilentAnswer {
  readonly rows: readonly (readonly (string | null)[])[];
  /** Statements that were completed, and rows that they were about. */
  readonly completed: number;
  readonly affected: number;
  /** Fields of the ErrorResponse, by letter. */
  readonly error: ReadonlyMap<string, string> | undefined;
  /** See `again`. */
  readonly isStale: boolean;
}

export interface Borrower {
  readonly login: Login;
  readonly settings: SessionSettings;
  readonly transaction: ClientTransaction;
  readonly routing: SessionRouting;
  readonly limits: SessionLimits;
  readonly isClosed: boolean;
  say(bytes: Buffer): void;
  /** Writes what was said; false when the client doesn't take it as fast. */
  flush(): boolean;
  /** Answers statements that follow a request. */
  answer(statements: readonly PlannedStatement[]): void;
  /** A segment has ended: statements that it failed to make are forgotten, and portals with the transaction. */
  segmentEnded(hasFailed: boolean): void;
  /** The loan is at rest: the next message may be taken. */
  settled(): void;
  /** The request can't be met: nothing of it was sent. */
  refused(error: RouterError, request: Request): void;
  /** A NotificationResponse has come for a channel, as the member calls it. */
  notified(processId: number, channel: string, payload: string): void;
  /** The connection to the client can't go on. */
  ended(error: RouterError): void;
  /** Everything up to the next Sync is to be ignored. */
  skipToSync(): void;
  /** A prepared statement's result has changed. */
  resultTypeChanged(): void;
}
