/**
 * Changing the membership of a running shard, one step a round. Pure; what may change, and when it may be recorded, is decided
 * in `core/authority/membership-change.ts`. Here it meets what the agents say, and the position noted in between.
 */
import {
  changedMembership,
  isSafeToRecord,
  type MembershipChange,
  type MembershipInput,
  nextChange,
  recordGoesFirst,
} from '#core/authority/membership-change.ts';
import type { AuthorityRecord } from '#core/authority/record.ts';
import { describeChange, good } from './findings.ts';
import { whyHeld } from './held.ts';
import { isOpeningPrimary, isOpenPrimary, lsnOf, memberFacts, primaryStatus, regionIn } from './members.ts';
import type { NotedPosition } from './memory.ts';
import { deliveryOf } from './orders.ts';
import type { Snapshot } from './snapshot.ts';
import type { Step } from './step.ts';
import { ordersDuring, rolloutOf } from './wishes.ts';

export function planMembership(snapshot: Snapshot, record: AuthorityRecord): Step {
  const initialised = good(
    'Initialised',
    'Initialised',
    `epoch 1 began with ${record.history[0]?.member ?? record.authority.member}`,
  );
  const input = membershipInput(snapshot, record);
  const change = nextChange(input);
  if (change === undefined) return { initialised, held: whyHeld(input) };
  const noted = recordGoesFirst(change, record) ? undefined : notedPosition(snapshot, record, change);
  if (isSafeToRecord(change, noted?.position, input)) {
    const membership = changedMembership(record.membership, change);
    const message = `${describeChange(change)}: membership generation ${membership.generation}`;
    return {
      swap: { kind: 'Record', record: { ...record, membership }, why: message },
      event: { type: 'Normal', reason: 'MembershipChanged', message },
      initialised,
      change,
    };
  }
  return { initialised, change, note: noted };
}

export function membershipInput({ shard, views, awayMs }: Snapshot, record: AuthorityRecord): MembershipInput {
  return {
    record,
    wish: shard.spec.durability,
    regionOf: regionIn(views),
    members: memberFacts(record, views, awayMs),
    primaryIsOpen: isOpenPrimary(record, primaryStatus(record, views)),
    primaryIsOpening: isOpeningPrimary(record, primaryStatus(record, views)),
  };
}

/**
 * The position for a change that Postgres makes first: taken once the primary is shown to work by the changed orders, kept for
 * as long as exactly these orders of this term are in effect, and taken anew otherwise.
 */
function notedPosition(
  snapshot: Snapshot,
  record: AuthorityRecord,
  change: MembershipChange,
): NotedPosition | undefined {
  const { leaderTerm, noted } = snapshot;
  const wished = ordersDuring(snapshot, record, change, rolloutOf(snapshot)).find(
    ({ view }) => view.name === record.authority.member,
  );
  const status = primaryStatus(record, snapshot.views);
  if (wished === undefined || status?.orders?.applied !== true || deliveryOf(wished, leaderTerm) !== 'delivered')
    return undefined;
  if (noted?.leaderTerm === leaderTerm && noted.digest === wished.digest) return noted;
  const position = lsnOf(status.postgres?.lsn.flushed);
  return position === undefined ? undefined : { leaderTerm, digest: wished.digest, position };
}
