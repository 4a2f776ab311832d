/**
 * A digest of orders: how the operator sees whether a member already has what it wants, without comparing whole documents.
 * Invariant: `leaderTerm` and `sequence` are left out, since they say who spoke when, not what is wanted.
 */
import { createHash } from 'node:crypto';
import type { Orders } from './orders.ts';

/** 16 hexadecimal characters; the same whatever the order of keys. The agent reports it in `status.orders.digest`. */
export function ordersDigest(orders: Orders): string {
  const { leaderTerm: _term, sequence: _sequence, ...wish } = orders;
  return createHash('sha256').update(canonicalJson(wish)).digest('hex').slice(0, 16);
}

/** JSON with the keys of every object sorted, absent members left out. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`);
  return `{${entries.join(',')}}`;
}
