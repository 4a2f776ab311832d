/**
 * Which sequence values each shard draws from, so that rows of tenants that move never meet (design, trap M15).
 */
const bits = 40n;

export interface SequenceRange {
  readonly minimum: bigint;
  readonly maximum: bigint;
}

/** [n * 2^40 + 1, (n + 1) * 2^40 - 1] for shard ordinal n: 10^12 values each, below 2^53 (exact in a double) up to ordinal 8191. */
export function sequenceRange(shardOrdinal: number): SequenceRange {
  if (!Number.isInteger(shardOrdinal) || shardOrdinal < 0 || shardOrdinal > 8191) {
    throw new RangeError(`shard ordinal ${shardOrdinal} is not between 0 and 8191`);
  }
  const ordinal = BigInt(shardOrdinal);
  return { minimum: (ordinal << bits) + 1n, maximum: ((ordinal + 1n) << bits) - 1n };
}
