/**
 * The part of a Keyspace that says which consistency a read has that asks for none itself (docs/design.md, section 6).
 */
import { z } from 'zod';
import { tableName } from './keyspace-schema.ts';
import { atomicListOf } from './list.ts';
import { ruled } from './rule.ts';

export const consistencyLevels = ['strong', 'causal', 'bounded', 'eventual'] as const;
export type ConsistencyLevel = (typeof consistencyLevels)[number];

const levels =
  'strong (from the primary), causal (sees what the session has seen), bounded (at most maxStalenessMs old) or eventual ' +
  '(the nearest follower)';

const maxStalenessMs = () =>
  z
    .int()
    .min(100)
    .max(86_400_000)
    .optional()
    .describe(
      'How old what is read may be at most, in milliseconds, 100 to 86400000. For the level bounded, and only there.',
    );

const rule = ruled(
  z.strictObject({
    table: tableName().optional().describe('For statements over this table, as name or schema.name.'),
    workflow: z
      .string()
      .min(1)
      .max(63)
      .optional()
      .describe('For sessions of this workflow: their application_name, or meridian.workflow.'),
    role: z.string().min(1).max(41).optional().describe('For sessions of this role, which must be one of spec.roles.'),
    level: z.enum(consistencyLevels).describe(`The level: ${levels}.`),
    maxStalenessMs: maxStalenessMs(),
  }),
  {
    cel: '[has(self.table), has(self.workflow), has(self.role)].filter(given, given).size() == 1',
    message: 'a rule is for exactly one of table, workflow or role: split it into one rule for each',
    holds: ({ table, workflow, role }) => [table, workflow, role].filter((given) => given !== undefined).length === 1,
  },
  {
    cel: "has(self.maxStalenessMs) == (self.level == 'bounded')",
    message: 'maxStalenessMs belongs to the level bounded: give it there, and nowhere else',
    holds: ({ level, maxStalenessMs }) => (maxStalenessMs !== undefined) === (level === 'bounded'),
  },
);

export const consistency = ruled(
  z.strictObject({
    default: z
      .enum(consistencyLevels)
      .default('strong')
      .describe(`The level of every other read: ${levels}. Default: strong.`),
    maxStalenessMs: maxStalenessMs(),
    rules: ruled(atomicListOf(rule, 100), {
      cel: 'self.all(r, self.exists_one(o, (has(r.table) && has(o.table) && o.table == r.table) || (has(r.workflow) && has(o.workflow) && o.workflow == r.workflow) || (has(r.role) && has(o.role) && o.role == r.role)))',
      message: 'two rules are for the same table, workflow or role: keep one',
      holds: (list) =>
        new Set(list.map(({ table, workflow, role }) => JSON.stringify([table, workflow, role]))).size === list.length,
    })
      .default([])
      .describe('Exceptions: by workflow, by table, by role, looked up in this order. 100 at most. Default: none.'),
  }),
  {
    cel: "has(self.maxStalenessMs) == (self.default == 'bounded')",
    message: 'maxStalenessMs belongs to the level bounded: give it where default is bounded, and only there',
    holds: (settings) => (settings.maxStalenessMs !== undefined) === (settings.default === 'bounded'),
  },
);
