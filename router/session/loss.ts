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

/**
 * The connection broke. `underWay`: statements sent and not completed; undefined stands for one of which nothing is known.
 * 08007: it may have been committed. 40001: it surely wasn't. 08006: it was only reading.
 */
export function lossError(
  reason: string,
  isInTransaction: boolean,
  underWay: readonly (StatementPlan | undefined)[],
): RouterError {
  const text = `the connection to the member was lost: ${reason}`;
  const mayHaveCommitted = underWay.some((plan) => {
    if (plan === undefined) return !isInTransaction;
    return mayCommit(plan) || (!isInTransaction && plan.access === 'write');
  });
  if (mayHaveCommitted) return new RouterError('OutcomeUnknown', text);
  if (isInTransaction) return new RouterError('SerializationFailure', text);
  return new RouterError('ConnectionLost', text);
}
