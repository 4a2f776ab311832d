/**
 * What an error tells a client about its transaction: surely nothing (`fail`), or nobody knows (`info`). It takes the
 * SQLSTATEs at their documented word, so that a router which says `40001` for something that was committed is caught by
 * the judges (docs/router.md, "Errors of the router's own").
 */
import pg from 'pg';
import type { Outcome } from './entry.ts';

/** Said by whoever gave up waiting on this side: the connection is cut then. */
export class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError';
}

/** Nothing of it was committed, whatever was under way and however severe the error. */
const surelyNothing: ReadonlySet<string> = new Set([
  '40001', // the router: lost surely before the commit; Postgres: serialization failure
  '40P01', // deadlock
  '08006', // nothing that could commit was in flight
  '57P03', // no member can serve this now: it was sent nowhere
  '53300', // no free connection in time: it was sent nowhere
  '25P02', // the transaction had failed before
]);

const outcomeUnknown: ReadonlySet<string> = new Set(['08007', 'XX000']);

export function sqlStateOf(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}

/** `mayHaveCommitted`: the COMMIT, or a statement that commits by itself, had been sent. */
export function outcomeOf(error: unknown, mayHaveCommitted: boolean): Exclude<Outcome, 'ok'> {
  if (!mayHaveCommitted) return 'fail';
  const state = sqlStateOf(error);
  if (state === undefined || outcomeUnknown.has(state)) return 'info';
  if (surelyNothing.has(state)) return 'fail';
  // A session that Postgres ends may have been in the middle of its commit ("terminating connection ..." while it waits
  // for followers); an ERROR says that the transaction was rolled back.
  const { severity } = error as pg.DatabaseError;
  return severity === 'FATAL' || severity === 'PANIC' ? 'info' : 'fail';
}

export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const state = sqlStateOf(error);
  return state === undefined ? `${(error as NodeJS.ErrnoException).code ?? error.name}: ${error.message}` : state;
}
