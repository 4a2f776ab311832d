/**
 * Hints in a comment at the very start of a statement, in the form of sqlcommenter: key='value' pairs with commas between,
 * both percent-encoded, quotes escaped with a backslash. Anywhere else a comment is a comment.
 * Source: sqlcommenter specification, "Key Value Format".
 */
import type { Hints } from './types.ts';

/** Longer comments are no hints: looking for pairs in them would take time. */
const maxCommentLength = 4096;

const pair = /([^\s=,']+)\s*=\s*'((?:[^'\\]|\\.)*)'/g;

function decoded(text: string): string {
  const plain = text.replaceAll(/\\(.)/g, '$1');
  try {
    return decodeURIComponent(plain);
  } catch {
    return plain;
  }
}

/** What stands in the comment that the text begins with; undefined where it begins otherwise, or the comment nests. */
function leadingComment(sql: string): string | undefined {
  const start = sql.search(/\S/);
  if (start < 0 || !sql.startsWith('/*', start)) return undefined;
  const end = sql.indexOf('*/', start + 2);
  if (end < 0 || end - start > maxCommentLength) return undefined;
  const comment = sql.slice(start + 2, end);
  return comment.includes('/*') ? undefined : comment;
}

/** Hints of the first comment; nothing where the text begins otherwise. */
export function parseHints(sql: string): Hints {
  const comment = leadingComment(sql);
  if (comment === undefined || !comment.includes('=')) return {};
  const found = new Map<string, string>();
  for (const [, key = '', value = ''] of comment.matchAll(pair)) found.set(decoded(key), decoded(value));
  const tenant = found.get('tenant');
  const consistency = found.get('consistency');
  const maxStaleness = found.get('max_staleness');
  const token = found.get('token');
  return {
    ...(tenant !== undefined && { tenant }),
    ...(consistency !== undefined && { consistency }),
    ...(maxStaleness !== undefined && { maxStaleness }),
    ...(token !== undefined && { token }),
  };
}
