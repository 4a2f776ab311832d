/**
 * Whether a tenant's key is a value of the keyspace's key type, in the one spelling in which Postgres gives it back. Pure.
 * Two spellings of one value ("7" and "007") would be two Tenants that own the same rows, so only the canonical one is taken.
 * Source: PostgreSQL documentation, "Numeric Types", "UUID Type".
 */
import type { KeyspaceSpec } from '#crds/index.ts';

type KeyType = KeyspaceSpec['tenantKey']['type'];

const uuidForm = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const integerForm = /^(0|-?[1-9][0-9]*)$/;

const integerProblem = (key: string, bits: 32n | 64n, type: string): string | undefined => {
  const limit = 1n << (bits - 1n);
  if (integerForm.test(key)) {
    const value = BigInt(key);
    if (value >= -limit && value < limit) return undefined;
  }
  return `spec.key must be a ${type} from ${-limit} to ${limit - 1n}, without leading zeros or a plus sign`;
};

/** What is wrong with a key, for people; undefined when nothing is. */
export function tenantKeyProblem(key: string, type: KeyType): string | undefined {
  switch (type) {
    case 'text':
      return undefined;
    case 'uuid':
      return uuidForm.test(key)
        ? undefined
        : 'spec.key must be a UUID in lower case, such as 0b7f7c9e-2f0f-4d53-9b6a-0f3e8b1c2d4e';
    case 'integer':
      return integerProblem(key, 32n, 'whole number');
    case 'bigint':
      return integerProblem(key, 64n, 'whole number');
  }
}
