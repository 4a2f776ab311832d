/**
 * Makes a statement that is answered wrongly shorter, as long as it stays wrong in the same way: runs of tokens are left out, longer ones
 * first, where what is left is still SQL.
 */
import { loadModule, parseSync, scanSync } from 'libpg-query';
import type { Verdict } from './laboratory.ts';
import type { FuzzStatement } from './statements.ts';

export type Wrong = Extract<Verdict, { kind: 'wrong' }>;

const maxAttempts = 400;

interface Found {
  readonly statement: FuzzStatement;
  readonly verdict: Wrong;
}

export async function shortened(
  statement: FuzzStatement,
  verdict: Wrong,
  check: (candidate: FuzzStatement) => Promise<Verdict>,
): Promise<Found> {
  await loadModule();
  let best: Found = { statement, verdict };
  let attempts = 0;
  const hint = /^\/\*.*?\*\/ /.exec(statement.text)?.[0] ?? '';
  let tokens = tokensOf(statement.text.slice(hint.length));
  for (let size = tokens.length >> 1; size >= 1; ) {
    let isShorter = false;
    for (let start = 0; start + size <= tokens.length && attempts < maxAttempts; ) {
      const rest = [...tokens.slice(0, start), ...tokens.slice(start + size)];
      const candidate = candidateOf(statement, hint, rest.join(' '));
      if (candidate !== undefined) attempts += 1;
      const found = candidate === undefined ? undefined : await check(candidate);
      if (candidate !== undefined && found?.kind === 'wrong' && found.what === verdict.what) {
        best = { statement: candidate, verdict: found };
        tokens = rest;
        isShorter = true;
      } else start += 1;
    }
    if (attempts >= maxAttempts) return best;
    // What was needed may not be any more once something else is gone.
    size = isShorter ? Math.min(size, tokens.length >> 1) : size >> 1;
  }
  return best;
}

const tokensOf = (sql: string): readonly string[] => {
  const bytes = Buffer.from(sql);
  return scanSync(sql).tokens.map(({ start, end }) => bytes.toString('utf8', start, end));
};

function candidateOf(statement: FuzzStatement, hint: string, text: string): FuzzStatement | undefined {
  // All parameters stay: without one the statement would be refused for that.
  if (statement.values.some((_, index) => !text.includes(`$${index + 1}`))) return undefined;
  try {
    const { stmts = [] } = parseSync(text) as { stmts?: unknown[] };
    return stmts.length === 0 ? undefined : { ...statement, text: hint + text };
  } catch {
    return undefined;
  }
}
