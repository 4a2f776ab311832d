/**
 * Whether what is sent to a primary is followed by the question where the primary is then: behind whatever may have committed something,
 * and behind reads of sessions to which it matters. Pure. The answer comes in the round trip of the commit: it is a call of its own,
 * written together with it, and the client's ReadyForQuery waits for it.
 *
 * What is asked is the end of what is *flushed*: a commit has returned only when it was, so it lies before; the end of what is inserted
 * would do as well, but may lie in what others write and nobody flushes for a while, where followers can't get to.
 */
import type { StatementPlan } from '../plan/types.ts';
import { functionCallMessage } from '../wire/client-messages.ts';

/** pg_current_wal_flush_lsn() */
export const flushLsnCall = functionCallMessage(3330);

type Plans = readonly (StatementPlan | undefined)[];

/** Something of these may write; one of which nothing is known may. */
export const mayWrite = (plans: Plans): boolean =>
  plans.some((plan) => plan === undefined || (plan.access === 'write' && plan.kind !== 'transaction'));

/**
 * Whether no transaction is open after them. The question must not be the first of a new one: it would take its snapshot, and its
 * SET TRANSACTION would come too late.
 */
export function endsIdle(isInTransaction: boolean, plans: Plans): boolean {
  let isOpen = isInTransaction;
  for (const plan of plans) {
    const { verb, chain = false } = plan?.transaction ?? {};
    if (verb === 'begin') isOpen = true;
    else if (verb === 'commit' || verb === 'rollback') isOpen = chain;
  }
  return !isOpen;
}
