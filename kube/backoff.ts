/**
 * Growing pauses between tries, with jitter so that many don't come back together. Randomness is an argument.
 */

export interface BackoffLimits {
  readonly baseMs: number;
  readonly maxMs: number;
}

/** The pause before try number `failures` + 1: between half and all of base * 2^(failures - 1), at most `maxMs`. */
export function backoffMs(failures: number, limits: BackoffLimits, random: () => number = Math.random): number {
  if (failures <= 0) return 0;
  const full = Math.min(limits.maxMs, limits.baseMs * 2 ** Math.min(failures - 1, 30));
  return full * (0.5 + random() / 2);
}
