/**
 * The part of a Keyspace that says who may log in, and for which tenants.
 * A role fixed to one tenant is pinned by its login; one of several chooses by `meridian.tenant` (docs/design.md, section 5).
 */
import { z } from 'zod';
import { limits } from './limits.ts';
import { mapOf, setOf } from './list.ts';
import { ruled } from './rule.ts';
import { tenantKey } from './tenant.ts';

const reservedRoles = ['none', 'postgres', 'public'];
const roleForm = /^[a-z_]([a-z0-9_]*[a-z0-9])?$/;

/** A role's name: also part of a Secret's name (with _ as -), which can't end with a hyphen. */
export const roleName = () =>
  ruled(
    z.string().min(1).max(41),
    {
      cel: "self.matches('^[a-z_]([a-z0-9_]*[a-z0-9])?$') && self != '_'",
      message: "a role's name is lower-case letters, digits and _, starts with a letter or _, and does not end with _",
      holds: (name) => roleForm.test(name) && name !== '_',
    },
    {
      cel: `!self.startsWith('pg_') && !self.startsWith('meridian') && !(self in [${reservedRoles.map((name) => `'${name}'`).join(', ')}])`,
      message:
        "names that start with pg_ or meridian, and none, postgres and public, are Postgres' or Meridian's own: choose another",
      holds: (name) => !name.startsWith('pg_') && !name.startsWith('meridian') && !reservedRoles.includes(name),
    },
  );

/** What a role may do at the routers' admin database. */
export const adminRights = ['stats', 'full'] as const;

const role = ruled(
  z.strictObject({
    name: roleName().describe('Name of the role, with which applications log in. 41 characters at most.'),
    tenants: setOf(tenantKey(), 64)
      .min(1)
      .optional()
      .describe(
        'Keys of the tenants that the role may act for. With one, the role is fixed to it and needs to say nothing; with ' +
          'several (64 at most), each session chooses (SET meridian.tenant).',
      ),
    anyTenant: z
      .literal(true)
      .optional()
      .describe('True: the role may act for any tenant; each session or statement says for which.'),
    admin: z
      .enum(adminRights)
      .optional()
      .describe(
        "Lets the role connect to the routers' admin database, meridian: stats may SHOW, full may PAUSE, RESUME and " +
          'RELOAD as well. Such a role needs neither tenants nor anyTenant. Left out: it may not.',
      ),
    clientCertificate: z
      .literal(true)
      .optional()
      .describe(
        "True: besides the password the routers demand a client certificate. It is the role's own, in its Secret (tls.crt, " +
          'tls.key), renewed like all others. Left out: the password is enough.',
      ),
    validUntil: ruled(z.string().min(1).max(40), {
      cel: 'timestamp(self) > timestamp("2000-01-01T00:00:00Z")',
      message: 'a time as in RFC 3339: 2027-01-31T12:00:00Z',
      holds: (text) =>
        /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text) && Date.parse(text) > Date.UTC(2000),
    })
      .optional()
      .describe(
        'The time after which nobody logs in as the role any more (VALID UNTIL in Postgres), as 2027-01-31T12:00:00Z. Sessions ' +
          'that are open go on. Left out: without end.',
      ),
    limits: limits
      .optional()
      .describe('How much all clients of the role together may use, enforced by the routers. Left out: no limits.'),
  }),
  {
    cel: '!(has(self.tenants) && has(self.anyTenant)) && (has(self.tenants) || has(self.anyTenant) || has(self.admin))',
    message:
      'a role acts for exactly one of tenants (a list of keys) or anyTenant (true): give one of the two, or neither where it has admin',
    holds: ({ tenants, anyTenant, admin }) =>
      !(tenants !== undefined && anyTenant !== undefined) &&
      (tenants !== undefined || anyTenant !== undefined || admin !== undefined),
  },
);

export const roles = mapOf(role, 'name', 200);

export type KeyspaceRole = z.output<typeof role>;
