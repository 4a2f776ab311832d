/**
 * Which statements the router answers itself, which steer transactions, and what they may leave in a session: pure.
 * What no tenant may ever do is refused by the planner (`plan.refuse`); here is only what has to do with sharing backends.
 */
import { RouterError } from '../errors.ts';
import type { StatementPlan } from '../plan/types.ts';

/**
 * local: about the session alone (settings of Meridian, prepared statements). transaction: BEGIN and the like, which need no
 * backend while nothing has run. setting: SET and RESET of Postgres' settings. remote: everything else.
 */
export type StatementClass = 'local' | 'transaction' | 'setting' | 'remote';

const isMeridian = (name: string | undefined): boolean => name?.startsWith('meridian.') ?? false;

export function classOf(plan: StatementPlan): StatementClass {
  switch (plan.kind) {
    case 'set':
      return isMeridian(plan.set?.name) ? 'local' : 'setting';
    case 'show':
      return isMeridian(plan.show?.name) ? 'local' : 'remote';
    case 'reset':
      return isMeridian(plan.reset?.name) ? 'local' : 'setting';
    case 'discard':
    case 'deallocate':
    case 'execute':
    case 'unlisten':
      return 'local';
    case 'explain':
      return plan.explained === undefined ? 'remote' : 'local';
    case 'transaction':
      return 'transaction';
    default:
      return 'remote';
  }
}

export interface BackendState {
  /** A backend has the transaction, or is kept. */
  readonly isBound: boolean;
  /** The session keeps its backend between transactions. */
  readonly isKept: boolean;
  /** A transaction has begun for the client only. */
  readonly isLazy: boolean;
  /** Prepared by the protocol. */
  readonly statements: ReadonlyMap<string, unknown>;
}

/** Whether a statement needs a backend. `together`: all that are sent at once. */
export function needsBackend(
  plan: StatementPlan,
  together: readonly { readonly plan: StatementPlan }[],
  state: BackendState,
): boolean {
  const { isBound, isLazy, isKept } = state;
  switch (classOf(plan)) {
    case 'local':
      // In the middle of others it goes along: drivers' pools say `...; UNLISTEN *; RESET ALL` to what comes back to them.
      return isKept ? isOfPostgres(plan, state) : isNothingThere(plan) && together.some(needsOne);
    case 'transaction':
      // BEGIN binds nothing until a statement needs a shard; with others that do, it goes along.
      return isBound || together.some(needsOne);
    case 'setting':
      // What a backend goes back to is its own default, not what this client began with: it has to be seen there (loan.ts).
      return !isLazy || together.length > 1 || plan.kind === 'reset' || plan.set?.toDefault === true;
    case 'remote':
      return true;
  }
}

const needsOne = ({ plan }: { readonly plan: StatementPlan }): boolean => ['remote', 'setting'].includes(classOf(plan));

/** Does nothing on a backend on which nobody's channels and temporary tables are. */
const isNothingThere = ({ kind, channel, discard }: StatementPlan): boolean =>
  (kind === 'unlisten' && channel === undefined) || (kind === 'discard' && discard?.what !== 'all');

/** What is about the session's things in Postgres; where it keeps no backend there are none. */
function isOfPostgres(plan: StatementPlan, { statements }: BackendState): boolean {
  if (plan.kind === 'unlisten') return true;
  if (plan.kind === 'discard') return plan.discard?.what !== 'all';
  const name = plan.prepared?.name;
  if (plan.kind === 'execute') return true;
  return plan.kind === 'deallocate' && (name === undefined || !statements.has(name));
}

/** Fast-path function calls: nothing is known of them. */
export const functionCallPlan: StatementPlan = {
  text: '',
  start: 0,
  end: 0,
  kind: 'call',
  access: 'write',
  mayShare: false,
  touches: 'unknown',
  tenant: { from: 'none' },
  tables: [],
  calls: [],
};

/** What they answer with was made on this very backend: by somebody else, or nobody, where this transaction has made nothing. */
const sequenceMemory = new Set(['currval', 'lastval']);

/** Whether it may take a number from a sequence. */
export const mayDraw = (plan: StatementPlan): boolean => plan.access === 'write' && plan.kind !== 'transaction';

/**
 * `hasDrawn`: the session's transaction may have taken numbers already, on the backend on which this will run.
 * @throws RouterError for what is asked of the session's last number where nothing before it can have made one there.
 */
export function refuseSequenceMemory(plans: readonly StatementPlan[], hasDrawn: boolean): void {
  let hasAny = hasDrawn;
  for (const plan of plans) {
    const called = plan.calls.find((name) => sequenceMemory.has(name));
    if (called !== undefined && !hasAny && !plan.calls.includes('nextval'))
      throw new RouterError(
        'NotSupported',
        `${called}() is not supported through the router where its transaction has not taken a number before`,
        { hint: 'Use INSERT ... RETURNING, or do both in one transaction; connections are shared between clients.' },
      );
    // Asking for the number is a write by itself (it is volatile), and makes none.
    hasAny ||= called === undefined && mayDraw(plan);
  }
}

/** Functions that change nothing in the session though they are volatile. */
const harmless = new Set([
  'nextval',
  'currval',
  'lastval',
  'setval',
  'random',
  'clock_timestamp',
  'statement_timestamp',
  'timeofday',
  'gen_random_uuid',
  'pg_sleep',
  'channel',
  'notify',
  'pg_is_in_recovery',
  'txid_current',
  'pg_current_xact_id',
  'pg_advisory_xact_lock',
  'pg_advisory_xact_lock_shared',
  'pg_try_advisory_xact_lock',
  'pg_try_advisory_xact_lock_shared',
  'pg_advisory_unlock',
  'pg_advisory_unlock_shared',
  'pg_advisory_unlock_all',
]);

/**
 * Whether the statement could leave something in its session that isn't tracked: then the backend is discarded before anybody
 * else gets it. Triggers, defaults and views are the operator's own and aren't suspected.
 */
export function mayTaintSession(plan: StatementPlan, volatileFunctions: ReadonlySet<string>): boolean {
  switch (plan.kind) {
    case 'do':
    case 'call':
    case 'utility':
      return true;
    case 'select':
    case 'insert':
    case 'update':
    case 'delete':
    case 'merge':
    case 'explain':
    case 'declare':
    case 'copy':
      return plan.calls.some(
        (name) =>
          volatileFunctions.has(name) &&
          !harmless.has(name) &&
          // Local to the transaction.
          !(name === 'set_config' && plan.configures === undefined),
      );
    default:
      return false;
  }
}

/** Words without which a SELECT takes no row locks, writes nothing in a CTE, and makes no table. */
const writingWords = /\b(for|insert|update|delete|merge|into)\b/i;

/**
 * Whether the statement surely writes nothing, so that a cancel can't hit its commit. Wider than `access`: a SELECT that is more than
 * a read only for calling a function like pg_sleep writes nothing, either.
 */
export function surelyWritesNothing(plan: StatementPlan, volatileFunctions: ReadonlySet<string>): boolean {
  if (plan.access === 'read') return plan.kind !== 'transaction';
  const callsVolatile = plan.calls.some((name) => volatileFunctions.has(name));
  return plan.kind === 'select' && !callsVolatile && !writingWords.test(plan.text);
}
