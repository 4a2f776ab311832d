/**
 * How a tenant is named in advisory locks: (this constant, the tenant's serial on this shard), in the two-integer form, which nobody
 * but `meridian_owner` and superusers may use. Shared by writers for their transaction, exclusive to freeze and to clean.
 * Source: PostgreSQL documentation, "Advisory Locks"; the one-bigint form is another key space and stays open to applications.
 */

/** 'MRDN'. Never changes: two versions of the operator must lock the same thing. */
export const tenantLockClass = 0x4d52444e;
