/**
 * Tenant keys as values: one spelling for each, and their reading from the parameters of a Bind message.
 * Source for binary forms: PostgreSQL source, the `*_recv` functions of int2, int4, int8, uuid, text.
 */
import type { TenantKeyType } from '../map/map.ts';

/** The usual spelling of a key that is a whole number, as it is. */
const plainNumber = /^[1-9][0-9]{0,17}$/;
const uuidForm = /^\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?$/i;

/** The spelling under which the map knows a key; undefined where the text is no key of that type. */
export function canonicalKey(text: string, type: TenantKeyType): string | undefined {
  switch (type) {
    case 'text':
      return text;
    case 'uuid':
      return uuidForm.exec(text)?.slice(1).join('-').toLowerCase();
    case 'bigint':
    case 'integer':
      if (plainNumber.test(text)) return text;
      return /^\s*[+-]?[0-9]+\s*$/.test(text) ? BigInt(text.trim().replace(/^\+/, '')).toString() : undefined;
  }
}

/** Types whose text is the same in a message as in Postgres: unknown, text, varchar. */
const textOids = new Set([0, 25, 705, 1043]);
const integerOids = new Set([20, 21, 23]);
/** Whose text is exactly the number: not that of float4 and float8, which Postgres rounds before it compares. */
const exactOids = new Set([0, 20, 21, 23, 1700]);
const uuidOid = 2950;

/**
 * The key in a bound parameter. `declaredType` is the type in the Parse message, 0 where the server infers it: then it is the key
 * column's own. Undefined for NULL and for what can't be read with certainty.
 */
export function keyOfParameter(
  parameter: { readonly format: number; readonly value: Buffer | null } | undefined,
  declaredType: number,
  type: TenantKeyType,
): string | undefined {
  const value = parameter?.value;
  if (parameter === undefined || value === undefined || value === null) return undefined;
  if (type === 'text' && !textOids.has(declaredType)) return undefined;
  if ((type === 'bigint' || type === 'integer') && !exactOids.has(declaredType)) return undefined;
  if (parameter.format === 0) return canonicalKey(value.toString('utf8'), type);
  if (integerOids.has(declaredType) || (declaredType === 0 && (type === 'bigint' || type === 'integer'))) {
    if (value.length === 2) return value.readInt16BE().toString();
    if (value.length === 4) return value.readInt32BE().toString();
    return value.length === 8 ? value.readBigInt64BE().toString() : undefined;
  }
  if (declaredType === uuidOid || (declaredType === 0 && type === 'uuid'))
    return value.length === 16 ? canonicalKey(value.toString('hex'), 'uuid') : undefined;
  if (type === 'text') return value.toString('utf8');
  return undefined;
}
