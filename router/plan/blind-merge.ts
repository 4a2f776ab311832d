/**
 * MERGE that compares nothing of its target. Postgres adds the row-level security of SELECT to a MERGE's target only where the
 * statement reads a column of it (rewrite/rowsecurity.c, get_row_security_policies: `requiredPerms & ACL_SELECT`); else it joins all
 * rows of all tenants, and whether there is any decides between MATCHED and NOT MATCHED. So it is refused, pinned or not.
 */
import type { MergeStmt, Node } from '@pgsql/types';
import { namesOf } from './functions.ts';
import { relationOf } from './restriction/analysis.ts';
import type { Catalogue, Refusal } from './types.ts';
import { forEachChild } from './walk.ts';

const isGuarded: ReadonlySet<string> = new Set(['tenant', 'undeclared']);

export function blindMerge(merges: readonly MergeStmt[], catalogue: Catalogue): Refusal | undefined {
  for (const { relation, joinCondition } of merges) {
    if (relation === undefined) continue;
    const target = relationOf(catalogue, relation);
    if (!isGuarded.has(target.kind)) continue;
    const alias = relation.alias?.aliasname;
    const [table = '', schema] = 'name' in target ? target.name.split('.').toReversed() : [];
    // With its schema a table that has an alias can't be meant, but another of that name in the source.
    const names = alias === undefined ? [table, `${schema}.${table}`] : [alias];
    if (joinCondition !== undefined && reads(joinCondition, names)) continue;
    return {
      sqlstate: '0A000',
      message: `MERGE has to compare a column of "${names[0]}" in its ON clause`,
      hint: `Write one with the name of the table: ON ${names[0]}.column = ... Otherwise rows of other tenants would count as matched.`,
    };
  }
  return undefined;
}

/** Within a subquery the name may be another's. Columns without a name before them are the source's, for all that the text says. */
function reads(node: object, names: readonly string[]): boolean {
  if ('SubLink' in (node as Node)) return false;
  if ('ColumnRef' in node) {
    const fields = namesOf((node.ColumnRef as { fields?: object[] }).fields);
    return names.includes(fields.slice(0, -1).join('.'));
  }
  let isFound = false;
  forEachChild(node, (child) => {
    isFound ||= reads(child, names);
  });
  return isFound;
}
