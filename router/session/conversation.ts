/** What the parts of a session that understand its messages (simple.ts, extended.ts, copy-in/) share: its state, and how it answers. */
import type { RouterContext } from '../context.ts';
import type { RouterError } from '../errors.ts';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import type { BoundPortal } from './batch.ts';
import type { Channels } from './channels.ts';
import type { KeptNames } from './kept-names.ts';
import type { Loan } from './loan.ts';
import type { Responder } from './responder.ts';
import type { Ride } from './ride.ts';
import type { SessionRouting } from './session-routing.ts';
import type { SessionSettings } from './settings.ts';
import type { BackendState } from './statement-class.ts';
import type { ClientStatement } from './statements.ts';
import type { ClientTransaction } from './transaction.ts';

export interface Conversation {
  readonly context: RouterContext;
  readonly settings: SessionSettings;
  readonly transaction: ClientTransaction;
  readonly routing: SessionRouting;
  readonly loan: Loan;
  readonly responder: Responder;
  readonly ride: Ride;
  readonly statements: KeptNames<ClientStatement>;
  readonly portals: KeptNames<BoundPortal>;
  readonly channels: Channels;
  readonly backendState: BackendState;
  /** By itself, outside a transaction, and quick as far as is known. */
  mayRide(statement: PlannedStatement): boolean;
  say(bytes: Buffer): void;
  /** What was asked for is refused, and not a byte of it was sent. */
  refuse(error: RouterError, isExtended: boolean): void;
  /** From now on messages are rows for that COPY. */
  copyIn(planned: PlannedStatement, isExtended: boolean): void;
}
