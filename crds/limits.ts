/**
 * How much a tenant, or a role, may use of each router: the same words for both. Enforced by router/limits/.
 * Everything is counted by each router on its own: what a keyspace may use in all is this times the routers.
 */
import { z } from 'zod';

export const limits = z.strictObject({
  connections: z
    .int()
    .min(1)
    .max(100_000)
    .optional()
    .describe(
      'Client connections at most, at each router; of a tenant, those that are fixed to it or have chosen it. ' +
        'More are refused (53300). Default: no limit of its own.',
    ),
  transactionsInFlight: z
    .int()
    .min(1)
    .max(100_000)
    .optional()
    .describe(
      'Transactions, and statements outside of one, that hold a Postgres connection at the same time at most, at each ' +
        'router. More wait for their turn, then are refused (53300). Default: no limit of its own.',
    ),
  statementsPerSecond: z
    .int()
    .min(1)
    .max(1_000_000)
    .optional()
    .describe(
      'Statements per second at most, at each router; what was not used of a second may be used in the next. ' +
        'More are refused (53400). Default: no limit.',
    ),
  statementTimeoutMs: z
    .int()
    .min(1)
    .max(86_400_000)
    .optional()
    .describe('Milliseconds that one statement may run at most, then it is cancelled. Default: no limit of its own.'),
});
