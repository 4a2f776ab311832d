/** What a judge says of a history; `unknown` is no acquittal. */

export interface Verdict {
  readonly judge: string;
  readonly valid: boolean | 'unknown';
  /** How many operations it looked at: a judge that saw nothing has shown nothing. */
  readonly operations: number;
  /** What is wrong, for people; the first few where there are many. */
  readonly findings: readonly string[];
}

const SHOWN = 20;

/** By what was found: nothing found is valid. */
export function verdictOf(judge: string, operations: number, findings: readonly string[]): Verdict {
  const more = findings.length - SHOWN;
  return {
    judge,
    valid: findings.length === 0,
    operations,
    findings: more > 0 ? [...findings.slice(0, SHOWN), `and ${more} more`] : findings,
  };
}
