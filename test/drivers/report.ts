/**
 * What the programs of drivers print: a line for each check, `CHECK`, its name, `ok`, `failed` or `cannot`, and words, with tabs
 * between. What a driver can't do is written here, too, so that a check doesn't vanish by saying that it can't.
 */

export const checkNames = [
  'tls',
  'values',
  'binary',
  'prepared',
  'tenants',
  'transaction',
  'errors',
  'notices',
  'listen',
  'cursor',
  'pipeline',
  'copy out',
  'copy in',
  'cancel',
  'big rows',
  'many columns',
] as const;

export interface CheckResult {
  readonly name: string;
  readonly outcome: 'ok' | 'failed' | 'cannot';
  readonly words: string;
}

export function readResults(printed: string): CheckResult[] {
  return printed.split('\n').flatMap((line) => {
    const [mark, name, outcome, words] = line.split('\t');
    if (mark !== 'CHECK' || name === undefined) return [];
    return [{ name, outcome: outcome === 'ok' || outcome === 'cannot' ? outcome : 'failed', words: words ?? '' }];
  });
}

/** The results as they count: every check is there, and only what may be missing can't be done. */
export function judge(expected: readonly string[], cannot: readonly string[], printed: string): CheckResult[] {
  const results = new Map(readResults(printed).map((one) => [one.name, one]));
  return expected.map((name): CheckResult => {
    const result = results.get(name);
    if (result === undefined) return { name, outcome: 'failed', words: 'its program said nothing about it' };
    if (result.outcome === 'cannot' && !cannot.includes(name)) return { ...result, outcome: 'failed' };
    return result;
  });
}
