/**
 * Keeps one physical replication slot for each other member, on primary and followers alike, so that WAL which another
 * member still needs is kept wherever the authority goes next. The wish comes with the orders; what to do is a pure
 * difference. `max_slot_wal_keep_size` bounds what a dead member can hold back.
 * On a follower nobody streams from these slots, so the agent moves them along itself, a window behind its own replay.
 * Source: PostgreSQL documentation, "Replication Slots", "System Administration Functions".
 */
import { type MemberIdentity, slotName } from '#core/identity.ts';
import { formatLsn, type Lsn, parseLsn } from '#core/lsn.ts';
import type { LocalSession } from './session.ts';

export interface SlotSeen {
  readonly name: string;
  readonly active: boolean;
  readonly restartLsn: string | null;
  readonly walStatus: string | null;
}

export type SlotAction =
  | { readonly kind: 'create'; readonly name: string }
  | { readonly kind: 'drop'; readonly name: string }
  | { readonly kind: 'advance'; readonly name: string; readonly to: Lsn };

const ourForm = /^member_[0-9a-f]{16}$/;
/** How far behind its replay a follower lets other members' slots be. A quarter of the default bound of a slot. */
export const followerWindowBytes = 512n * 1024n * 1024n;

/** `replayed` is given on a follower only. Slots of others' making (moves, backups) are not ours to touch. */
export function planSlots(
  wanted: readonly MemberIdentity[],
  seen: readonly SlotSeen[],
  replayed: Lsn | undefined,
): SlotAction[] {
  const wantedNames = new Set(wanted.map((member) => slotName(member.incarnation)));
  const actions: SlotAction[] = [];
  for (const slot of seen) {
    if (!ourForm.test(slot.name)) continue;
    // An active one can't be dropped; its tunnel is being closed, and the next round finds it free.
    if (!wantedNames.has(slot.name)) {
      if (!slot.active) actions.push({ kind: 'drop', name: slot.name });
    } else if (slot.walStatus === 'lost' && !slot.active) {
      // Its member needs a new copy in any case; a slot that is lost never comes back to life by itself.
      actions.push({ kind: 'drop', name: slot.name }, { kind: 'create', name: slot.name });
    } else if (replayed !== undefined && slot.restartLsn !== null && !slot.active) {
      const target = replayed - followerWindowBytes;
      if (target > parseLsn(slot.restartLsn)) actions.push({ kind: 'advance', name: slot.name, to: target as Lsn });
    }
  }
  const seenNames = new Set(seen.map((slot) => slot.name));
  for (const name of wantedNames) if (!seenNames.has(name)) actions.push({ kind: 'create', name });
  return actions;
}

/** One of ours, for a member that isn't named any more. */
export const isUnwanted = (slot: SlotSeen, wanted: readonly MemberIdentity[]): boolean =>
  ourForm.test(slot.name) && !wanted.some((member) => slotName(member.incarnation) === slot.name);

export async function readSlots(session: LocalSession): Promise<SlotSeen[]> {
  return session.query<{ name: string; active: boolean; restartLsn: string | null; walStatus: string | null }>(
    `select slot_name as name, active, restart_lsn as "restartLsn", wal_status as "walStatus"
       from pg_catalog.pg_replication_slots where slot_type = 'physical' and not temporary`,
  );
}

export async function applySlotAction(session: LocalSession, action: SlotAction): Promise<void> {
  switch (action.kind) {
    case 'create':
      // Reserved at once: a member that is being cloned needs the WAL from now on.
      await session.query('select pg_catalog.pg_create_physical_replication_slot($1, true)', [action.name]);
      return;
    case 'drop':
      await session.query('select pg_catalog.pg_drop_replication_slot($1)', [action.name]);
      return;
    case 'advance':
      await session.query('select pg_catalog.pg_replication_slot_advance($1, $2::pg_catalog.pg_lsn)', [
        action.name,
        formatLsn(action.to),
      ]);
      return;
  }
}

/** Nobody streams from it: it holds a primary's WAL for those that may have to be rewound. */
export const anchorSlot = 'meridian_anchor';

/**
 * On a primary: keeps its log from the last checkpoint on that every other member has passed. A rewind reads from the last
 * checkpoint before the fork; without this, any checkpoint past it, such as that of a clean stop, removes what it needs.
 * Members' own slots don't do that: they stand at the fork itself.
 */
export async function keepAnchor(session: LocalSession): Promise<void> {
  const [anchor] = await session.query<{ lost: boolean }>(
    `select wal_status = 'lost' as lost from pg_catalog.pg_replication_slots where slot_name = $1`,
    [anchorSlot],
  );
  if (anchor?.lost === true) await dropAnchor(session);
  if (anchor === undefined || anchor.lost) {
    await session.query('select pg_catalog.pg_create_physical_replication_slot($1, true)', [anchorSlot]);
    return;
  }
  await session.query(
    `select pg_catalog.pg_replication_slot_advance(anchor.slot_name, latest.redo_lsn)
       from pg_catalog.pg_replication_slots as anchor, pg_catalog.pg_control_checkpoint() as latest
      where anchor.slot_name = $1 and anchor.restart_lsn < latest.redo_lsn
        and not exists (select from pg_catalog.pg_replication_slots as other
                         where other.slot_name ~ '^member_' and other.wal_status <> 'lost'
                           and other.restart_lsn <= latest.checkpoint_lsn)`,
    [anchorSlot],
  );
}

/** On a standby, whose slots for others hold back more than that in any case. */
export async function dropAnchor(session: LocalSession): Promise<void> {
  await session.query(
    'select pg_catalog.pg_drop_replication_slot(slot_name) from pg_catalog.pg_replication_slots where slot_name = $1',
    [anchorSlot],
  );
}
