/**
 * What is done to a backend between two clients: pure, the statements and the judgement of their answers.
 * - pin: a role of several tenants has `meridian.tenant` set at each checkout, in a statement with a Sync of its own, so that no
 *   rollback of the client's undoes it (trap B17); read back before the backend returns, and any difference closes it.
 * - settings: those that the client's session has are replayed; those of the client before are reset.
 * - suspect or cancelled backends are discarded or probed with a marker that only this moment knows.
 */
import { randomUUID } from 'node:crypto';
import type { OwnAnswer } from './expectation.ts';

export const quoteLiteral = (text: string): string => {
  const quoted = `'${text.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`;
  return text.includes('\\') ? ` E${quoted}` : quoted;
};

/**
 * The statements that bring a backend from the settings it has to those that a session needs (both as `SET` statements joined by
 * semicolons, '' for none), each to be sent as a simple query of its own. RESET ALL takes the pin, too: it is set after them.
 */
export function checkoutStatements(has: string, needs: string): string[] {
  if (has === needs) return [];
  return [...(has === '' ? [] : ['RESET ALL']), ...(needs === '' ? [] : [needs])];
}

export interface Cleaning {
  readonly statements: readonly string[];
  /** Whether the answers, one for each statement, show a backend that may be used again. */
  readonly isClean: (answers: readonly OwnAnswer[]) => boolean;
}

interface Used {
  readonly pin: string | undefined;
  readonly isPinTrusted: boolean;
  readonly isSuspect: boolean;
  readonly wasCancelled: boolean;
}

/**
 * What has to be asked of a backend before it goes back to its pool; undefined when nothing has. A pin that only such statements ran
 * under as can't change it stays for the next of its tenant.
 */
export function cleaningOf(backend: Used): Cleaning | undefined {
  const isPinKnown = backend.pin === undefined || backend.isPinTrusted;
  return isPinKnown && !backend.isSuspect && !backend.wasCancelled ? undefined : emptying(backend);
}

/** Makes it nobody's, and shows that it was whose it should have been. */
export function emptying(backend: Used): Cleaning {
  const marker = randomUUID();
  // Read back first, then emptied: should setting the next pin ever fail, the session is nobody's.
  const probe = `SELECT '${marker}', pg_catalog.current_setting('meridian.tenant', true), pg_catalog.set_config('meridian.tenant', '', false)`;
  const pin = backend.pin;
  return {
    statements: backend.isSuspect ? [probe, 'DISCARD ALL'] : [probe],
    isClean: (answers) => {
      if (answers.some((answer) => answer.error !== undefined)) return false;
      const row = answers[0]?.rows[0];
      return row?.[0] === marker && (pin === undefined || row[1] === pin);
    },
  };
}
