/**
 * Gives each shard of a keyspace its ordinal, once. Pure.
 * The ordinal decides the range that the shard's sequences draw from, and rows keep their numbers when a tenant moves: so no ordinal
 * is ever given twice, not even after its shard is gone.
 */

export interface ShardEntry {
  readonly name: string;
  readonly ordinal: number;
  readonly migrations: number;
  readonly ready: boolean;
}

export interface OrdinalRecord {
  readonly shards: readonly ShardEntry[];
  /** The lowest ordinal never given. Only grows. */
  readonly nextOrdinal: number;
}

/** Sequence ranges stay within 2^53 up to this one (docs/design.md, section 5). */
export const maxOrdinal = 8191;

export interface OrdinalAssignment extends OrdinalRecord {
  /** Differs from what is recorded: must be written before any ordinal is used. */
  readonly changed: boolean;
  /** Shards that get none, since all are used up. */
  readonly without: readonly string[];
}

/** `names`: the shards of the keyspace that exist. Entries of shards that are gone go; new shards get the next ordinals by name. */
export function assignOrdinals(record: OrdinalRecord, names: readonly string[]): OrdinalAssignment {
  const kept = record.shards.filter((entry) => names.includes(entry.name));
  const known = new Set(kept.map((entry) => entry.name));
  // A record written by hand or cut by an old schema must not make an ordinal appear twice.
  let next = Math.max(record.nextOrdinal, ...record.shards.map((entry) => entry.ordinal + 1), 0);
  const added: ShardEntry[] = [];
  const without: string[] = [];
  for (const name of [...new Set(names)].toSorted()) {
    if (known.has(name)) continue;
    if (next > maxOrdinal) without.push(name);
    else added.push({ name, ordinal: next++, migrations: 0, ready: false });
  }
  const shards = [...kept, ...added].toSorted((a, b) => a.ordinal - b.ordinal);
  return {
    shards,
    nextOrdinal: next,
    without,
    changed: added.length > 0 || kept.length !== record.shards.length || next !== record.nextOrdinal,
  };
}
