/** Which tenant, shard, level and kind of member a statement gets: the order of docs/design.md, section 6, case by case. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RouterError } from '#router/errors.ts';
import {
  anyRoute,
  mergeRoutes,
  type Route,
  routeStatement,
  type SessionToRoute,
  type StatementToRoute,
} from '#router/exec/route.ts';
import { consistencyLevels } from '#router/map/map.ts';
import type { TenantSource } from '#router/plan/types.ts';
import { acmeOnly, anyone, map, noone, pair, plan, reader, session } from './fixture.ts';

const constant = (...values: string[]): TenantSource => ({ from: 'constant', values });
const statement = (tenant: TenantSource, more: Partial<StatementToRoute> = {}): StatementToRoute => ({
  plan: plan({ tenant }),
  hints: {},
  ...more,
});
const unrestricted: TenantSource = { from: 'unrestricted', why: 'nothing' };

function routed(who: Partial<SessionToRoute>, what: StatementToRoute): string {
  try {
    const { tenant, shard, primaryOnly } = routeStatement(map, session(who), what);
    return `${tenant ?? '-'}@${shard ?? 'any'}${primaryOnly ? ' primary' : ''}`;
  } catch (error) {
    assert.ok(error instanceof RouterError, String(error));
    return error.sqlstate;
  }
}

const text = (value: string): { format: number; value: Buffer } => ({ format: 0, value: Buffer.from(value) });
const parameters = (
  ...values: ({ format: number; value: Buffer | null } | undefined)[]
): Partial<StatementToRoute> => ({
  parameters: (index) => values[index - 1],
  parameterTypes: [],
});

describe('the tenant is the first found of', () => {
  const cases: readonly (readonly [string, Partial<SessionToRoute>, StatementToRoute, string])[] = [
    ['the login’s only one', { login: acmeOnly }, statement(unrestricted), 'acme@one primary'],
    ['the session’s', { tenant: 'bolt' }, statement(unrestricted), 'bolt@two primary'],
    ['the comment’s', {}, statement(unrestricted, { hints: { tenant: 'bolt' } }), 'bolt@two primary'],
    ['the statement’s', {}, statement(constant('acme')), 'acme@one primary'],
    [
      'a parameter’s',
      {},
      statement({ from: 'parameters', indexes: [1], values: [] }, parameters(text('bolt'))),
      'bolt@two primary',
    ],
    ['none: refused', {}, statement(unrestricted), 'MD003'],
    [
      'none, and unknown tables: refused',
      {},
      { plan: plan({ touches: 'unknown', tenant: { from: 'none' } }), hints: {} },
      'MD003',
    ],
  ];
  for (const [name, who, what, expected] of cases)
    test(name, () => {
      assert.equal(routed(who, what), expected);
    });
});

describe('a statement is refused that names', () => {
  const cases: readonly (readonly [string, Partial<SessionToRoute>, StatementToRoute, string])[] = [
    ['another tenant than the login’s', { login: acmeOnly }, statement(constant('bolt')), 'MD004'],
    [
      'another tenant than the login’s, in a comment',
      { login: acmeOnly },
      statement(unrestricted, { hints: { tenant: 'bolt' } }),
      'MD004',
    ],
    ['another tenant than the session’s', { tenant: 'acme' }, statement(constant('bolt')), 'MD004'],
    [
      'another tenant than the session’s without being restricted to it',
      { tenant: 'acme' },
      statement({ from: 'unrestricted', why: 'OR', names: ['acme', 'bolt'] }),
      'MD004',
    ],
    ['another tenant than its comment', {}, statement(constant('bolt'), { hints: { tenant: 'acme' } }), 'MD004'],
    ['a tenant that is not the role’s', { login: pair }, statement(constant('dusk')), '42501'],
    ['a tenant, for a role of none', { login: noone }, statement(constant('acme')), '42501'],
    ['a tenant that does not exist', {}, statement(constant('nobody')), 'MD002'],
    [
      'a tenant that does not exist, which a role of few must not learn',
      { login: pair },
      statement(constant('nobody')),
      '42501',
    ],
    ['several tenants', {}, statement(constant('acme', 'bolt')), '0A000'],
    ['a tenant that is changing its shard', {}, statement(constant('move')), '57P03'],
    [
      'two parameters that must agree and do not',
      {},
      statement(
        { from: 'parameters', indexes: [1, 2], values: [], mustAgree: true },
        parameters(text('acme'), text('bolt')),
      ),
      'MD003',
    ],
    [
      'a NULL parameter',
      {},
      statement({ from: 'parameters', indexes: [1], values: [] }, parameters({ format: 0, value: null })),
      'MD003',
    ],
    ['a parameter that is not bound yet', {}, statement({ from: 'parameters', indexes: [1], values: [] }), 'MD003'],
  ];
  for (const [name, who, what, expected] of cases)
    test(name, () => {
      assert.equal(routed(who, what), expected);
    });
});

describe('what touches no tenant', () => {
  const nothing = { plan: plan({ touches: 'nothing', tenant: { from: 'none' }, tables: [] }), hints: {} } as const;
  const reference = { plan: plan({ touches: 'reference', tenant: { from: 'none' }, tables: [] }), hints: {} } as const;
  const written = {
    plan: plan({ touches: 'reference', tenant: { from: 'none' }, access: 'write' }),
    hints: {},
  } as const;

  test('goes anywhere, also in a session with a tenant, unless a transaction ties it', () => {
    assert.equal(routed({}, nothing), '-@any');
    assert.equal(routed({ tenant: 'acme' }, nothing), 'acme@any');
    assert.equal(routed({ tenant: 'acme', isInTransaction: true, level: 'eventual' }, nothing), 'acme@one');
    // What follows it there may be a strong read of the tenant's.
    assert.equal(routed({ tenant: 'acme', isInTransaction: true }, nothing), 'acme@one primary');
    assert.equal(
      routed({ tenant: 'acme', isInTransaction: true, isWritingTransaction: true }, nothing),
      'acme@one primary',
    );
  });

  test('reads reference tables strongly at a primary, and never writes them', () => {
    assert.equal(routed({}, reference), '-@any primary');
    assert.equal(routed({ level: 'eventual' }, reference), '-@any');
    assert.equal(routed({ tenant: 'acme' }, written), '0A000');
  });
});

describe('the level', () => {
  const read = statement(constant('acme'));
  const level = (who: Partial<SessionToRoute>, what: StatementToRoute = read): string =>
    routeStatement(map, session(who), what).level;

  test('is the comment’s, the session’s, the rules’ and the default’s, in that order', () => {
    assert.equal(level({}), 'strong');
    assert.equal(level({ level: 'eventual' }), 'eventual');
    assert.equal(level({ level: 'eventual' }, { ...read, hints: { consistency: 'strong' } }), 'strong');
    assert.equal(level({ workflow: 'reports' }), 'eventual');
    assert.equal(level({ login: reader }), 'eventual');
    assert.equal(level({ login: anyone, workflow: 'other' }), 'strong');
  });

  test('of tables counts when all or one of them has it', () => {
    const on = (...tables: string[]): StatementToRoute => ({
      plan: plan({ tenant: constant('acme'), tables }),
      hints: {},
    });
    assert.equal(level({}, on('public.audit')), 'eventual');
    assert.equal(level({}, on('public.settings')), 'eventual');
    assert.equal(level({}, on('public.orders')), 'strong');
    assert.equal(level({}, on('public.orders', 'public.audit')), 'strong', 'a table without a rule has the default');
  });

  test('only ever lets reads outside writing transactions leave the primary', () => {
    const tenants = fc.constantFrom('acme', 'bolt');
    fc.assert(
      fc.property(
        tenants,
        fc.boolean(),
        fc.boolean(),
        fc.constantFrom('read', 'write'),
        fc.constantFrom('strong', 'eventual'),
        (tenant, inside, writing, access, wanted) => {
          const route = routeStatement(
            map,
            session({ level: wanted as 'strong', isInTransaction: inside, isWritingTransaction: inside && writing }),
            { plan: plan({ tenant: constant(tenant), access: access as 'read' }), hints: {} },
          );
          const mayLeave = access === 'read' && wanted === 'eventual' && !(inside && writing);
          assert.equal(route.primaryOnly, !mayLeave);
        },
      ),
    );
  });

  test('of causal and bounded reads leaves the member open; one that there isn’t is refused', () => {
    for (const [consistency, expected] of [
      ['causal', 'acme@one'],
      ['bounded', 'acme@one'],
      ['maybe', '22023'],
    ] as const)
      assert.equal(routed({}, { ...read, hints: { consistency } }), expected);
  });

  const boundOf = (more: Partial<SessionToRoute>, hints: StatementToRoute['hints'] = {}): number | undefined =>
    routeStatement(map, session(more), { ...read, hints }).maxStalenessMs;

  test('bounds age by the comment, then the session, then the manifest, and only where it is bounded', () => {
    assert.equal(boundOf({ level: 'causal', maxStalenessMs: 700 }), undefined);
    assert.equal(boundOf({ level: 'bounded' }), 5_000);
    assert.equal(boundOf({ level: 'bounded', maxStalenessMs: 700 }), 700);
    assert.equal(boundOf({ level: 'bounded', maxStalenessMs: 700 }, { maxStaleness: '2s' }), 2_000);
    assert.throws(() => boundOf({ level: 'bounded' }, { maxStaleness: '2 weeks' }), { sqlstate: '22023' });
  });

  test('of statements that run together is the strictest in both ways: what one saw, and how old it is', () => {
    const routeAt = (level: 'causal' | 'bounded' | 'eventual', maxStalenessMs?: number): Route => ({
      ...anyRoute,
      level,
      maxStalenessMs,
    });
    const merged = mergeRoutes([routeAt('bounded', 900), routeAt('causal'), routeAt('bounded', 300)], anyRoute);
    assert.deepEqual([merged.level, merged.maxStalenessMs], ['causal', 300]);
  });
});

test('what the planner refuses is refused with its own words', () => {
  const refuse = { sqlstate: '42501', message: 'no', hint: 'never' };
  assert.throws(
    () => routeStatement(map, session(), { plan: plan({ refuse }), hints: {} }),
    (error: RouterError) => error.sqlstate === '42501' && error.message === 'no' && error.hint === 'never',
  );
});

describe('merged routes', () => {
  const route = fc
    .record({
      tenant: fc.constantFrom(undefined, 'acme', 'bolt'),
      level: fc.constantFrom(...consistencyLevels),
      primaryOnly: fc.boolean(),
    })
    .map(
      (one): Route => ({ ...one, shard: one.tenant === undefined ? undefined : one.tenant === 'acme' ? 'one' : 'two' }),
    );
  const otherwise: Route = { tenant: undefined, shard: undefined, level: 'eventual', primaryOnly: false };

  test('are as strict as the strictest, and never of two tenants', () => {
    fc.assert(
      fc.property(fc.array(route, { minLength: 1, maxLength: 5 }), (routes) => {
        const tenants = new Set(routes.flatMap((one) => one.tenant ?? []));
        if (tenants.size > 1) {
          assert.throws(() => mergeRoutes(routes, otherwise), RouterError);
          return;
        }
        const merged = mergeRoutes(routes, otherwise);
        assert.equal(merged.tenant, [...tenants][0]);
        assert.equal(
          merged.primaryOnly,
          routes.some((one) => one.primaryOnly),
        );
        assert.equal(
          consistencyLevels.indexOf(merged.level),
          Math.min(...routes.map((one) => consistencyLevels.indexOf(one.level))),
        );
      }),
    );
    assert.equal(mergeRoutes([], otherwise), otherwise);
  });
});
