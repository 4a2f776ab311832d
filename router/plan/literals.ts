/**
 * Plans that hold whatever the constants of a statement are: their values are taken out of the parse tree before it is analysed, so
 * that nothing can depend on them. What is compared with a tenant key becomes a reference instead, and its text is read from each
 * statement by itself. Left in the tree, so that texts have to have them in common, are constants that mean something else where
 * they stand: columns by number in ORDER BY, GROUP BY and DISTINCT ON, modifiers of types, intervals.
 */
import type { A_Const, Node } from '@pgsql/types';
import { namesOf } from './functions.ts';
import type { Constants, StatementPlan, TenantSource } from './types.ts';
import { forEachChild } from './walk.ts';

/** In the place of a value. */
export interface UnseenLiteral {
  readonly reference: number;
  /** A string or an integer; else no key is spelled like that. */
  readonly mayBeKey: boolean;
}

type Erased = A_Const & { unseen?: UnseenLiteral };

export const literalOf = (constant: A_Const): UnseenLiteral | undefined => (constant as Erased).unseen;

/**
 * Set where an analysis would have concluded something else, perhaps, had it seen a value. Planning is synchronous, so that one flag
 * will do.
 */
let isValueNeeded = false;

/** The values of constants may matter here. */
export function needValue(): void {
  isValueNeeded = true;
}

/** The plan of a statement without its values; undefined where they may matter. */
export function withoutValues<T>(plan: () => T): T | undefined {
  isValueNeeded = false;
  const planned = plan();
  return isValueNeeded ? undefined : planned;
}

/** A constant by its index; with a minus, which the grammar makes part of the number. */
const referenceOf = (index: number, isNegative: boolean): number => index * 2 + (isNegative ? 1 : 0);

export const indexOfReference = (reference: number): number => reference >> 1;

/** The text of the key that a reference stands for. `text`: of its constant. */
export const keyOfReference = (reference: number, text: string): string => ((reference & 1) === 1 ? `-${text}` : text);

/** Takes the values out of the tree, in place. Returns the constants that have to stay as they are, by index. */
export function eraseLiterals(statement: Node, constants: Constants, text: Buffer): number[] {
  const byStart = new Map<number, number>();
  for (let index = 0; index < constants.count; index++) byStart.set(constants.start(index), index);
  const erased = new Set<number>();
  const erase = (constant: A_Const): void => {
    if (constant.isnull === true || constant.boolval !== undefined || constant.bsval !== undefined) return;
    const location = constant.location ?? 0;
    const number = constant.ival?.ival ?? constant.fval?.fval;
    const isNegative = constant.ival?.ival === undefined ? String(number).startsWith('-') : constant.ival.ival < 0;
    const index = byStart.get(isNegative ? behindMinus(text, location) : location);
    if (index === undefined) return;
    // One constant may stand in the tree more than once: SET (a, b) = (1, 2).
    erased.add(index);
    const mayBeKey = constants.key(index) !== undefined;
    delete constant.sval;
    delete constant.ival;
    delete constant.fval;
    (constant as Erased).unseen = { reference: referenceOf(index, isNegative), mayBeKey };
  };
  const visit = (node: object): void => {
    if ('A_Const' in node) return erase(node.A_Const as A_Const);
    for (const key of positional) {
      const items = (node as Record<string, unknown>)[key];
      if (items !== undefined) return visitBut(node, key, items);
    }
    if ('TypeCast' in node && isInterval((node as { TypeCast: { typeName?: { names?: object[] } } }).TypeCast.typeName))
      return;
    if ('typmods' in node) return;
    forEachChild(node, visit);
  };
  /** Constants that are themselves an item are left alone; what is further in is an expression like any other. */
  const visitItems = (items: unknown): void => {
    for (const item of Array.isArray(items) ? (items as unknown[]) : [items]) {
      if (typeof item !== 'object' || item === null || 'A_Const' in item) continue;
      if ('RowExpr' in item) visitItems((item.RowExpr as { args?: unknown }).args ?? []);
      else visit(item);
    }
  };
  const visitBut = (node: object, key: string, items: unknown): void => {
    visitItems(items);
    const { [key]: _, ...rest } = node as Record<string, unknown>;
    visit(rest);
  };
  visit(statement);
  return [...byStart.values()].filter((index) => !erased.has(index));
}

/** Where an item that is a bare integer is the number of a column. `node`: of ORDER BY; `content`: of a grouping set. */
const positional = ['groupClause', 'distinctClause', 'node', 'content'] as const;

const isInterval = ({ names }: { names?: readonly object[] } = {}): boolean => namesOf(names).at(-1) === 'interval';

/** -1 where something else than white space stands between. */
function behindMinus(text: Buffer, location: number): number {
  if (text[location] !== 0x2d) return -1;
  let at = location + 1;
  while (at < text.length && ' \t\n\r\f\v'.includes(String.fromCharCode(text[at] as number))) at += 1;
  return at;
}

/** Whether a plan that leaves constants open says of this statement what its own plan does. */
export function saysTheSame(shaped: StatementPlan, own: StatementPlan, constants: Constants): boolean {
  const outline = (plan: StatementPlan): string =>
    JSON.stringify({ ...plan, tenant: undefined, text: undefined, start: undefined, end: undefined });
  return outline(shaped) === outline(own) && meaningOf(shaped.tenant, constants) === meaningOf(own.tenant, constants);
}

/** The source with its references filled in; reasons apart. */
function meaningOf(source: TenantSource, constants: Constants): string {
  if (source.from === 'none') return 'none';
  const keys = (source.literals ?? []).map((reference) =>
    keyOfReference(reference, constants.key(indexOfReference(reference)) ?? ''),
  );
  const values = source.from === 'unrestricted' ? (source.names ?? []) : source.values;
  const all = [...new Set([...values, ...keys])].toSorted();
  if (source.from === 'unrestricted' || (source.mustAgree === true && all.length > 1))
    return JSON.stringify(['unrestricted', all]);
  const indexes = source.from === 'parameters' ? source.indexes : [];
  return JSON.stringify([indexes, all, indexes.length > 0 && source.mustAgree === true]);
}
