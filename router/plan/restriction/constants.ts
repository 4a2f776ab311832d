/**
 * Reads constants and parameters that a tenant key is compared with, or that are inserted as one.
 * Only where the text is certain to be the key that Postgres would compute: no casts that change a value (`char(3)`,
 * numeric to text), no expressions, no collations, never NULL.
 */
import type { A_ArrayExpr, A_Const, Node, TypeName } from '@pgsql/types';
import { literalOf, needValue } from '../literals.ts';
import { type KeySet, keySet, unionOfKeys } from './terms.ts';

type TypeClass = 'text' | 'integer' | 'uuid';

/** Casts within one class leave the text of a key as it is, or spell the same key. */
const typeClasses: ReadonlyMap<string, TypeClass> = new Map([
  ['text', 'text'],
  ['varchar', 'text'],
  ['int2', 'integer'],
  ['int4', 'integer'],
  ['int8', 'integer'],
  ['uuid', 'uuid'],
]);

function nameOf(type: TypeName): string | undefined {
  const names = (type.names ?? []).map((name) => ('String' in name ? (name.String.sval ?? '') : ''));
  if (names.length === 2 && names[0] !== 'pg_catalog') return undefined;
  return names.length > 2 ? undefined : names.at(-1);
}

function classOf(type: TypeName | undefined, isArray: boolean): TypeClass | undefined {
  if (type === undefined || type.setof === true || (type.typmods ?? []).length > 0) return undefined;
  if (((type.arrayBounds ?? []).length === 1) !== isArray || (type.arrayBounds ?? []).length > 1) return undefined;
  const name = nameOf(type);
  return name === undefined ? undefined : typeClasses.get(name);
}

function literal(constant: A_Const): string | undefined {
  if (constant.isnull === true) return undefined;
  if (constant.sval !== undefined) return constant.sval.sval ?? '';
  if (constant.ival !== undefined) return String(constant.ival.ival ?? 0);
  const digits = constant.fval?.fval;
  return digits !== undefined && /^-?[0-9]+$/.test(digits) ? digits : undefined;
}

/** The key that a constant or a parameter stands for. `within`: the class of the casts around it. */
export function constantKey(node: Node | undefined, within?: TypeClass): KeySet | undefined {
  if (node === undefined) return undefined;
  if ('A_Const' in node) {
    const unseen = literalOf(node.A_Const);
    if (unseen !== undefined) return unseen.mayBeKey ? keySet([], [], [unseen.reference]) : undefined;
    const text = literal(node.A_Const);
    return text === undefined ? undefined : keySet([], [text]);
  }
  if ('ParamRef' in node) return node.ParamRef.number ? keySet([node.ParamRef.number], []) : undefined;
  if ('TypeCast' in node) {
    const type = classOf(node.TypeCast.typeName, false);
    if (type === undefined || (within !== undefined && within !== type)) return undefined;
    return constantKey(node.TypeCast.arg, type);
  }
  return undefined;
}

/** The keys of a list of constants; undefined where any of them isn't one. */
export function constantKeys(nodes: readonly Node[]): KeySet | undefined {
  const sets: KeySet[] = [];
  for (const node of nodes) {
    const keys = constantKey(node);
    if (keys === undefined) return undefined;
    sets.push(keys);
  }
  return sets.length === 0 ? undefined : unionOfKeys(sets);
}

/** An array literal whose elements need no quotes: anything else is left to Postgres. */
const plainArray = /^\{([^{}",\\\s]+(?:,[^{}",\\\s]+)*)\}$/;

/** The keys of a constant array: ARRAY['a', 'b'], '{a,b}', with a cast to an array of a key's type or none. */
export function constantArray(node: Node | undefined): KeySet | undefined {
  if (node === undefined) return undefined;
  if ('A_ArrayExpr' in node) return elementsOf(node.A_ArrayExpr, undefined);
  if ('A_Const' in node) return literalArray(node.A_Const);
  if ('TypeCast' in node) {
    const type = classOf(node.TypeCast.typeName, true);
    const inner = node.TypeCast.arg;
    if (type === undefined || inner === undefined) return undefined;
    if ('A_ArrayExpr' in inner) return elementsOf(inner.A_ArrayExpr, type);
    return 'A_Const' in inner ? literalArray(inner.A_Const) : undefined;
  }
  return undefined;
}

function elementsOf(array: A_ArrayExpr, within: TypeClass | undefined): KeySet | undefined {
  const sets: KeySet[] = [];
  for (const element of array.elements ?? []) {
    const keys = constantKey(element, within);
    if (keys === undefined) return undefined;
    sets.push(keys);
  }
  return sets.length === 0 ? undefined : unionOfKeys(sets);
}

function literalArray(constant: A_Const): KeySet | undefined {
  if (literalOf(constant) !== undefined) needValue();
  const elements = plainArray.exec(constant.sval?.sval ?? '')?.[1]?.split(',');
  if (elements === undefined || elements.some((element) => element.toLowerCase() === 'null')) return undefined;
  return keySet([], elements);
}
