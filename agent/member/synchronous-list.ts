/**
 * What a change of the synchronous list means for commits that are waiting just then. Pure.
 */
import { type MemberIdentity, nobody, replicationName } from '#core/identity.ts';

export interface SynchronousList {
  /** k: 0 for no list at all. */
  readonly acknowledgements: number;
  readonly members: readonly MemberIdentity[];
}

/**
 * grown: same k, and everybody who counted still counts. begun: from no list to one, which commits learn of only at the
 * checkpointer's reload. changed: anything else; some walsender might release commits that should wait.
 */
export type ListChange = 'same' | 'grown' | 'begun' | 'changed';

/** @param before Undefined where it isn't known which list is in force: it may have been none, or any. */
export function compareLists(before: SynchronousList | undefined, after: SynchronousList): ListChange {
  if (before === undefined) return after.acknowledgements === 0 ? 'changed' : 'begun';
  if (before.acknowledgements === 0 && after.acknowledgements === 0) return 'same';
  if (before.acknowledgements === 0) return 'begun';
  if (before.acknowledgements !== after.acknowledgements) return 'changed';
  const former = new Set(before.members.map(replicationName));
  const present = new Set(after.members.map(replicationName));
  if ([...former].some((name) => !present.has(name) && !isNobody(name))) return 'changed';
  return former.size === present.size && [...former].every((name) => present.has(name)) ? 'same' : 'grown';
}

/** Stands for nobody, so nobody can acknowledge under its name. */
const isNobody = (name: string): boolean => name === replicationName(nobody);
