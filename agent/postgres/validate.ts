/**
 * Asks Postgres itself whether it would take a Shard's parameters, before they are written where a start reads them: a
 * misspelt parameter must not cost a member. Those that it refuses are left out and reported.
 * Source: PostgreSQL documentation, "postgres", option -C.
 */
import { ProgramError, runProgram } from './programs.ts';

export interface ValidatedParameters {
  readonly accepted: Readonly<Record<string, string>>;
  readonly problems: readonly string[];
}

export async function validateParameters(
  dataDirectory: string,
  wanted: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>>,
): Promise<ValidatedParameters> {
  const names = Object.keys(wanted);
  if (names.length === 0 || (await refusal(dataDirectory, wanted, env)) === undefined) {
    return { accepted: wanted, problems: [] };
  }
  const accepted: Record<string, string> = {};
  const problems: string[] = [];
  for (const [name, value] of Object.entries(wanted)) {
    const reason = await refusal(dataDirectory, { [name]: value }, env);
    if (reason === undefined) accepted[name] = value;
    else problems.push(`parameter ${name} is left out: ${reason}`);
  }
  return { accepted, problems };
}

async function refusal(
  dataDirectory: string,
  parameters: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>>,
): Promise<string | undefined> {
  const settings = Object.entries(parameters).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  try {
    await runProgram('postgres', ['-C', 'port', '-D', dataDirectory, ...settings], { env });
    return undefined;
  } catch (error) {
    // Killed, or out of memory: nothing is said about the parameters, and the answer is remembered.
    const reason = error instanceof ProgramError ? fatalReason(error.stderr) : undefined;
    if (reason === undefined) throw error;
    return reason;
  }
}

/** What Postgres says when it refuses to start; undefined when it says no such thing. */
export function fatalReason(stderr: string): string | undefined {
  return /^.*\bFATAL:\s*(.+)$/m.exec(stderr)?.[1];
}
