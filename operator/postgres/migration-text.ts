/**
 * Looks through a migration's text for statements that would end its transaction or leave its role, with Postgres' own grammar.
 * A text with a syntax error passes: Postgres says what is wrong with it, and where.
 */
import { parse } from 'libpg-query';

interface ParsedStatement {
  readonly stmt?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** What to name in the refusal, `COMMIT` or `SET ROLE`; empty when there is nothing to refuse. */
export async function statementsToRefuse(text: string): Promise<readonly string[]> {
  let statements: readonly ParsedStatement[];
  try {
    statements = ((await parse(text)).stmts ?? []) as readonly ParsedStatement[];
  } catch {
    return [];
  }
  const refused = statements.map(refusal).filter((name) => name !== undefined);
  return [...new Set(refused)];
}

function refusal({ stmt }: ParsedStatement): string | undefined {
  if (stmt === undefined) return undefined;
  if (stmt['TransactionStmt'] !== undefined) {
    return textOf(stmt['TransactionStmt']['kind']).replace('TRANS_STMT_', '').replaceAll('_', ' ');
  }
  const set = stmt['VariableSetStmt'];
  if (set === undefined) return undefined;
  const name = textOf(set['name']);
  if (set['kind'] === 'VAR_RESET_ALL') return 'RESET ALL';
  return name === 'role' || name === 'session_authorization' || name === 'session_replication_role'
    ? `SET ${name}`
    : undefined;
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');
