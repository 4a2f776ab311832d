/**
 * A short name for the content of orders, the same for the same content whatever the order of keys.
 * The operator compares it with the digest of what it wants, so both sides use this one function.
 */
import { createHash } from 'node:crypto';
import type { Orders } from './orders.ts';

/** 16 hexadecimal characters over everything but the numbering (leader term, sequence, who sent them). */
export function digestOfOrders(orders: Orders): string {
  const { leaderTerm: _term, sequence: _sequence, takeover: _takeover, ...content } = orders;
  return createHash('sha256').update(canonicalJson(content)).digest('hex').slice(0, 16);
}

export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const entries = Object.entries(value)
    .filter(([, inner]) => inner !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`);
  return `{${entries.join(',')}}`;
}
