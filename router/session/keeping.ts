/**
 * What makes a session keep its backend between transactions, because it lives in Postgres' session and nowhere else: LISTEN, session
 * advisory locks, temporary tables, cursors WITH HOLD, SQL-level PREPARE. Pure: which statements begin that, which may end it, and the
 * question to the backend itself whether anything is left; the statements' texts alone can't say (functions, rollbacks).
 * Leaves to others: how many may be kept (pool/pool.ts), keeping and letting go (loan.ts).
 */
import type { StatementPlan } from '../plan/types.ts';
import type { OwnAnswer } from '../pool/expectation.ts';
import { quoteLiteral } from '../pool/hygiene.ts';
import { mayTaintSession } from './statement-class.ts';

const takesSessionLock: ReadonlySet<string> = new Set([
  'pg_advisory_lock',
  'pg_advisory_lock_shared',
  'pg_try_advisory_lock',
  'pg_try_advisory_lock_shared',
]);
const leavesSessionLock: ReadonlySet<string> = new Set([
  'pg_advisory_unlock',
  'pg_advisory_unlock_shared',
  'pg_advisory_unlock_all',
]);

/** The session has to keep its backend once this has run; said before it is sent, so that it can be refused. */
export const startsKeeping = (plan: StatementPlan): boolean =>
  plan.kind === 'listen' ||
  plan.kind === 'prepare' ||
  plan.hold === true ||
  (plan.temporary === true && plan.dropsAtCommit !== true) ||
  plan.calls.some((name) => takesSessionLock.has(name));

const mayEnd: ReadonlySet<StatementPlan['kind']> = new Set(['unlisten', 'close', 'deallocate', 'discard', 'utility']);

/**
 * Whether it may begin or, where the session keeps its backend, end something of the kind, seen or unseen: the backend is then asked
 * when its transaction is over. Pools of drivers let go of everything with each connection that comes back: nobody is asked for that.
 */
export const mayChangeKeeping = (
  plan: StatementPlan,
  volatileFunctions: ReadonlySet<string>,
  isKept: boolean,
): boolean =>
  startsKeeping(plan) ||
  mayTaintSession(plan, volatileFunctions) ||
  (isKept && (mayEnd.has(plan.kind) || plan.calls.some((name) => leavesSessionLock.has(name))));

/**
 * Outside a transaction: what is there then lasts. Locks of transactions are gone by then. Behind it the values of settings that
 * functions may have set.
 */
export const leftoversSql = (settings: readonly string[]): string =>
  `${leftovers}${settings.map((name) => `, pg_catalog.current_setting(${quoteLiteral(name)}, true)`).join('')}`;

const leftovers = `SELECT pg_catalog.concat_ws(' ',
 CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()) THEN 'locks' END,
 CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) THEN 'channels' END,
 CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) THEN 'cursors' END,
 CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql) THEN 'statements' END,
 CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema())
  OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.pg_my_temp_schema()) THEN 'temporary' END)`;

/** Whether the session has to go on keeping it; where the answer is no answer it is kept, and told apart by what follows. */
export const hasLeftovers = ({ rows, error }: OwnAnswer): boolean => error !== undefined || rows[0]?.[0] !== '';

/** The end of a transaction that was begun in these words can't fail to begin at a primary, nor, `isPrimary` false, at a follower. */
export function surelyBegins(text: string, isPrimary: boolean): boolean {
  if (!plainBegin.test(text)) return false;
  return isPrimary || !/serializable|write/i.test(text);
}

const plainBegin =
  /^\s*(?:begin(?:\s+work|\s+transaction)?|start\s+transaction)(?:[\s,]+(?:isolation\s+level\s+(?:serializable|repeatable\s+read|read\s+committed|read\s+uncommitted)|read\s+only|read\s+write|(?:not\s+)?deferrable))*\s*;?\s*$/i;
