/**
 * In which order migrations run over the shards of a keyspace. Pure: asked again after every step, until it has nothing to run.
 *
 * Rules: shards that are behind catch up first; a migration that no shard has yet starts only when every shard that has a schema
 * can be reached, runs on the shard with the lowest ordinal alone, and only if it succeeds there on all the others; the next one
 * starts when the whole keyspace has this one. A failure anywhere stops everything that no shard has yet.
 * Invariant: reachable shards differ by one migration at most while new ones run.
 */

export interface ShardProgress {
  readonly name: string;
  readonly ordinal: number;
  /** Migrations it has: always the first ones of the list. */
  readonly applied: number;
  readonly reachable: boolean;
  /** Its last step failed: it runs nothing more this round. */
  readonly failed: boolean;
}

export type MigrationStep =
  | { readonly kind: 'run'; readonly shards: readonly string[]; readonly upTo: number }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed' }
  /** Some can't be reached; nothing new is started. */
  | { readonly kind: 'waiting'; readonly shards: readonly string[] };

/** `declared`: how many migrations there are to apply. */
export function nextMigrationStep(shards: readonly ShardProgress[], declared: number): MigrationStep {
  const reachable = shards.filter((shard) => shard.reachable).toSorted((a, b) => a.ordinal - b.ordinal);
  const front = Math.min(declared, Math.max(0, ...shards.map((shard) => shard.applied)));
  const behind = reachable.filter((shard) => shard.applied < front);
  const catchingUp = behind.filter((shard) => !shard.failed);
  if (catchingUp.length > 0) return { kind: 'run', shards: catchingUp.map(({ name }) => name), upTo: front };
  if (reachable.some((shard) => shard.failed)) return { kind: 'failed' };
  if (front === declared) return { kind: 'done' };
  // A shard that never had a schema holds nobody back: it catches up when it comes.
  const unreachable = shards.filter((shard) => !shard.reachable && shard.applied > 0);
  if (unreachable.length > 0) return { kind: 'waiting', shards: unreachable.map(({ name }) => name) };
  const first = reachable[0];
  return first === undefined ? { kind: 'done' } : { kind: 'run', shards: [first.name], upTo: front + 1 };
}
