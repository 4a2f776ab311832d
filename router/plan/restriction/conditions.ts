/**
 * Equalities that a condition demands: from its conjuncts only, so that whatever else the condition says, a row for which
 * it is true satisfies each of them. Nothing is taken from below OR, NOT, IS, CASE or a function.
 */
import type { A_Expr, ColumnRef, Node } from '@pgsql/types';
import { constantArray, constantKey, constantKeys } from './constants.ts';
import type { Scope } from './scope.ts';
import type { KeySet, Link, Term } from './terms.ts';

/** The dotted names of a column reference; undefined for `*`. */
export function columnNames({ fields }: ColumnRef): string[] | undefined {
  const names: string[] = [];
  for (const field of fields ?? []) {
    if (!('String' in field)) return undefined;
    names.push(field.String.sval ?? '');
  }
  return names.length === 0 ? undefined : names;
}

/** The term that an expression is, where it is a key column, a constant or a parameter. */
export function termOf(node: Node | undefined, scope: Scope): Term | undefined {
  if (node === undefined) return undefined;
  if ('ColumnRef' in node) {
    const names = columnNames(node.ColumnRef);
    return names === undefined ? undefined : scope.term(names);
  }
  const keys = constantKey(node);
  return keys === undefined ? undefined : { kind: 'set', keys };
}

/** Links from the conjuncts of a condition. */
export function linksOf(node: Node | undefined, scope: Scope): Link[] {
  if (node === undefined) return [];
  if ('BoolExpr' in node) {
    return node.BoolExpr.boolop === 'AND_EXPR' ? (node.BoolExpr.args ?? []).flatMap((arg) => linksOf(arg, scope)) : [];
  }
  if (!('A_Expr' in node) || !isEquals(node.A_Expr)) return [];
  const { kind, lexpr, rexpr } = node.A_Expr;
  if (kind === 'AEXPR_OP') return equality(lexpr, rexpr, scope);
  if (kind === 'AEXPR_OP_ANY')
    return termOf(lexpr, scope)?.kind === 'column' ? restriction(lexpr, constantArray(rexpr), scope) : [];
  if (kind !== 'AEXPR_IN' || rexpr === undefined || !('List' in rexpr)) return [];
  return membership(lexpr, rexpr.List.items ?? [], scope);
}

/** `=`, as pg_catalog has it. (NOT IN carries `<>`.) */
function isEquals({ name }: A_Expr): boolean {
  const names = (name ?? []).map((part) => ('String' in part ? (part.String.sval ?? '') : ''));
  return names.at(-1) === '=' && (names.length === 1 || (names.length === 2 && names[0] === 'pg_catalog'));
}

function equality(left: Node | undefined, right: Node | undefined, scope: Scope): Link[] {
  if (left !== undefined && right !== undefined && 'RowExpr' in left && 'RowExpr' in right) {
    const rights = right.RowExpr.args ?? [];
    const lefts = left.RowExpr.args ?? [];
    if (lefts.length !== rights.length) return [];
    return lefts.flatMap((item, index) => equality(item, rights[index], scope));
  }
  return linkBetween(termOf(left, scope), termOf(right, scope));
}

export function linkBetween(one: Term | undefined, other: Term | undefined): Link[] {
  if (one === undefined || other === undefined) return [];
  if (one.kind === 'column') return [{ column: one.column, to: other }];
  return other.kind === 'column' ? [{ column: other.column, to: one }] : [];
}

function restriction(left: Node | undefined, keys: KeySet | undefined, scope: Scope): Link[] {
  return keys === undefined ? [] : linkBetween(termOf(left, scope), { kind: 'set', keys });
}

/** `key IN (...)`, and `(key, other) IN ((...), (...))` for each key column on the left. */
function membership(left: Node | undefined, items: readonly Node[], scope: Scope): Link[] {
  if (left === undefined || items.length === 0) return [];
  if (!('RowExpr' in left)) return restriction(left, constantKeys(items), scope);
  const rows = items.map((item) => ('RowExpr' in item ? (item.RowExpr.args ?? []) : []));
  return (left.RowExpr.args ?? []).flatMap((column, position) => {
    const cells = rows.map((row) => row[position]).filter((cell) => cell !== undefined);
    return cells.length === rows.length ? restriction(column, constantKeys(cells), scope) : [];
  });
}
