/**
 * Looks through a migration's text for statements that would end its transaction or leave its role, with Postgres' own grammar.
 * A text with a syntax error passes: Postgres says what is wrong with it, and where.
 */
import { type ParseResult, parse } from 'libpg-query';

/** What to name in the refusal, `COMMIT` or `SET role`; empty when there is nothing to refuse. */
export async function statementsToRefuse(text: string): Promise<readonly string[]> {
  let parsed: ParseResult;
  try {
    parsed = await parse(text);
  } catch {
    return [];
  }
  const refused = (parsed.stmts ?? []).map(({ stmt }) => refusal(stmt)).filter((name) => name !== undefined);
  return [...new Set(refused)];
}

type Statement = NonNullable<ParseResult['stmts']>[number]['stmt'];

/** Settings that decide whose rights a migration has, and whether triggers see it. */
const ownSettings: readonly string[] = ['role', 'session_authorization', 'session_replication_role'];

function refusal(statement: Statement): string | undefined {
  if (statement === undefined) return undefined;
  if ('TransactionStmt' in statement) {
    return (statement.TransactionStmt.kind ?? 'transaction control').replace('TRANS_STMT_', '').replaceAll('_', ' ');
  }
  if (!('VariableSetStmt' in statement)) return undefined;
  const { kind, name = '' } = statement.VariableSetStmt;
  if (kind === 'VAR_RESET_ALL') return 'RESET ALL';
  return ownSettings.includes(name) ? `SET ${name}` : undefined;
}
