/** The API server: one record, kept by compare-and-swap on its version. Linearizable; how old an operator's copy is, is the operator's. */
import type { AuthorityRecord } from '#core/authority/record.ts';
import { checkNewest } from './invariants.ts';
import type { World } from './world.ts';

/** Whether the PUT was taken. */
export function store(world: World, put: { readonly record: AuthorityRecord; readonly version: number }): boolean {
  if (put.version !== world.api.version) return false;
  const before = world.api.record;
  world.api.record = put.record;
  world.api.version += 1;
  // What was acknowledged without any follower is nobody's promise any more.
  if (put.record.membership.acknowledgements === 0) world.kept = [];
  if (put.record.authority.epoch !== before.authority.epoch) checkNewest(world);
  return true;
}
