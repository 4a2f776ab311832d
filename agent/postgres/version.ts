/**
 * Which Postgres a member may run. Before these minor versions a backend could skip the wait for acknowledgements just
 * after its start (docs/design-traps.md, A9 d): a commit would be acknowledged that no follower has.
 * Source: PostgreSQL release notes of May 2025.
 */

const minimumMinor: Readonly<Record<number, number>> = { 17: 5, 18: 0 };

export interface PostgresVersion {
  readonly major: number;
  readonly minor: number;
}

/** Reads `postgres (PostgreSQL) 17.11 (Debian 17.11-0+deb13u1)`. A beta or a development version has no minor yet. */
export function parseVersion(text: string): PostgresVersion | undefined {
  const match = /\(PostgreSQL\) (\d+)(?:\.(\d+)|(?:beta|rc|devel)\d*)/.exec(text);
  if (match === null) return undefined;
  return { major: Number(match[1]), minor: Number(match[2] ?? -1) };
}

/** Why a member may not run it; undefined when it may. A major version that is newer than this file may. */
export function versionProblem(text: string): string | undefined {
  const version = parseVersion(text);
  if (version === undefined) return `not a version of Postgres: ${JSON.stringify(text.trim())}`;
  const { major, minor } = version;
  if (major < 17) return `Postgres ${major} is too old: 17 or later is needed`;
  const least = minimumMinor[major] ?? 0;
  return minor >= least ? undefined : `Postgres ${major}.${minor} is too old: ${major}.${least} or later is needed`;
}
