/**
 * The schemas of a search path, from the statement that set it: for the planner, which must resolve names as Postgres will.
 * What can't be read with certainty gives no schemas at all: unqualified names are then unknown, and nothing is guessed.
 */

const forms = [
  /^\s*set\s+(?:session\s+|local\s+)?search_path\s*(?:=|\bto\b)\s*(.*?)\s*;?\s*$/is,
  /^SELECT pg_catalog\.set_config\('search_path', '(.*)', false\)$/s,
];

const item = /^\s*(?:"((?:[^"]|"")*)"|'((?:[^']|'')*)'|([A-Za-z_][\w$]*))\s*$/;

/** The second form has quotes doubled within quotes. @param role whose name `$user` stands for. */
export function schemasOf(statement: string, role: string): string[] {
  const [said, set] = forms.map((form) => form.exec(statement)?.[1]);
  const list = said ?? set?.replaceAll("''", "'");
  if (list === undefined) return [];
  const schemas: string[] = [];
  for (const part of list.split(',')) {
    const match = item.exec(part);
    if (match === null) return [];
    const name = match[1]?.replaceAll('""', '"') ?? match[2]?.replaceAll("''", "'") ?? (match[3] ?? '').toLowerCase();
    schemas.push(name === '$user' ? role : name);
  }
  return schemas;
}
