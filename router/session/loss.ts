/**
 * What a client is told when no backend could be had, or the one at work was lost: pure. The truth about what may have happened is in
 * the SQLSTATE (docs/design.md, section 4, "What isn't known").
 */
import { RouterError } from '../errors.ts';
import type { ChosenMember } from '../exec/member-choice.ts';
import type { StatementPlan } from '../plan/types.ts';
import { MemberRefusal } from '../pool/connect.ts';
import { mayCommit } from './transaction.ts';

/** Not a byte of the statement was sent. */
export function borrowError(error: Error, { member }: ChosenMember): RouterError {
  if (error instanceof RouterError) return error;
  if (error instanceof MemberRefusal)
    return new RouterError('NoMember', `member "${member.name}": ${error.message}`, { sqlstate: error.sqlstate });
  return new RouterError('NoMember', `member "${member.name}" of shard "${member.shard}" can not be reached`);
}

/** A statement of the router's own failed that had to come first: settings of the session, or its BEGIN. */
export const borrowRefusal = (fields: ReadonlyMap<string, string>): RouterError =>
  new RouterError('InvalidSetting', fields.get('M') ?? 'a setting of this session was refused', {
    sqlstate: fields.get('C'),
    hint: fields.get('H') ?? '',
  });

/** Nothing was under way, but what the session had in Postgres is gone. */
export const keptLost = (reason: string): RouterError =>
  new RouterError('KeptLost', `terminating connection: ${reason}`);

/** As Postgres says it: a prepared statement gives other columns than its client was told. */
export const resultTypeChanged = (): RouterError =>
  new RouterError('ResultTypeChanged', 'cached plan must not change result type');

export const cancelled = (): RouterError => new RouterError('Cancelled', 'canceling statement due to user request');

/**
 * Whether something of these may have been committed. `isInTransaction`: an explicit transaction was open before them. A pipeline
 * without one is committed at its end, so that a write in it counts until the end has been answered.
 */
export function mayHaveCommitted(isInTransaction: boolean, plans: readonly (StatementPlan | undefined)[]): boolean {
  let isHeld = isInTransaction;
  return plans.some((plan) => {
    if (plan === undefined) return !isHeld;
    if (mayCommit(plan) || (!isHeld && plan.access === 'write' && plan.kind !== 'transaction')) return true;
    // What follows a ROLLBACK in the same pipeline is a transaction of its own; what follows a BEGIN waits for its COMMIT.
    if (plan.transaction?.verb === 'begin') isHeld = true;
    else if (plan.transaction?.verb === 'rollback') isHeld = false;
    return false;
  });
}

/**
 * The connection broke. `sent`: statements sent since the last ReadyForQuery, completed or not; undefined stands for one of which
 * nothing is known. 08007: they may have been committed. 40001: they surely weren't. 08006: they were only reading.
 */
export function lossError(
  reason: string,
  isInTransaction: boolean,
  sent: readonly (StatementPlan | undefined)[],
): RouterError {
  const text = `the connection to the member was lost: ${reason}`;
  if (mayHaveCommitted(isInTransaction, sent)) return new RouterError('OutcomeUnknown', text);
  if (isInTransaction || sent.some((plan) => plan?.access === 'write' || plan?.kind === 'transaction'))
    return new RouterError('SerializationFailure', text);
  return new RouterError('ConnectionLost', text);
}
