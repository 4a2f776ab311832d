/**
 * How long a tenant's, or a role's, statements may run (limits.statementTimeoutMs): as Postgres' own statement_timeout, said behind the
 * session's settings wherever those are replayed, which never cancels a commit's wait for followers. What the session asks for itself
 * counts where it is less.
 */

/** As `SessionSettings.replayText`, with the limit. The same text for the same limit: connections are compared by it. */
export function withStatementTimeout(replayText: string, limitMs: number | undefined): string {
  if (limitMs === undefined) return replayText;
  // Its operators by their schema: the session's search_path is the client's own.
  const limit =
    `SELECT pg_catalog.set_config('statement_timeout', '${limitMs}', false) FROM pg_catalog.pg_settings ` +
    "WHERE name OPERATOR(pg_catalog.=) 'statement_timeout' AND (setting OPERATOR(pg_catalog.=) '0' " +
    `OR setting::pg_catalog.int4 OPERATOR(pg_catalog.>) ${limitMs})`;
  return replayText === '' ? limit : `${replayText}\n;${limit}`;
}
