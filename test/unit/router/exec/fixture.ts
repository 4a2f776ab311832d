/** A map, logins and plans for the tests of routing. */

import type { SessionToRoute } from '#router/exec/route.ts';
import type { Login } from '#router/map/logins.ts';
import type { ClusterMap } from '#router/map/map.ts';
import type { StatementPlan } from '#router/plan/types.ts';

export const map: ClusterMap = {
  keyspace: {
    name: 'shop',
    database: 'shop',
    tenantColumn: 'tenant_id',
    tenantType: 'text',
    consistency: {
      default: 'strong',
      rules: [
        { table: 'public.audit', level: 'eventual' },
        { table: 'settings', level: 'eventual' },
        { workflow: 'reports', level: 'eventual' },
        { role: 'reader', level: 'eventual' },
      ],
    },
    poolSize: 5,
    roles: [],
    maxClients: 10,
  },
  shards: new Map([
    ['one', { name: 'one', epoch: 3, primary: 'one-eu-0' }],
    ['two', { name: 'two', epoch: 1, primary: 'two-us-0' }],
    ['dark', { name: 'dark', epoch: 2 }],
  ]),
  members: new Map(
    (
      [
        ['one-eu-0', 'one', 'eu', true],
        ['one-us-0', 'one', 'us', true],
        ['one-ap-0', 'one', 'ap', true],
        ['two-us-0', 'two', 'us', true],
        ['two-ap-0', 'two', 'ap', false],
      ] as const
    ).map(([name, shard, region, ready]) => [
      name,
      { name, shard, region, address: '10.0.0.1', port: 5432, agentPort: 8420, ready },
    ]),
  ),
  tenants: new Map(
    (
      [
        ['acme', 'one', 'active'],
        ['bolt', 'two', 'active'],
        ['dusk', 'dark', 'active'],
        ['move', 'one', 'switching'],
      ] as const
    ).map(([key, shard, state]) => [key, { key, shard, epoch: 1, state }]),
  ),
  proximity: new Map([
    ['eu', ['us', 'ap']],
    ['us', ['eu', 'ap']],
    ['ap', ['us', 'eu']],
  ]),
};

const login = (role: string, more: Partial<Login>): Login => ({
  role,
  verifiers: [],
  anyTenant: false,
  tenants: new Set(),
  ...more,
});
export const anyone = login('anyone', { anyTenant: true });
export const reader = login('reader', { anyTenant: true });
export const acmeOnly = login('acme_app', { tenants: new Set(['acme']), fixedTenant: 'acme' });
export const pair = login('pair', { tenants: new Set(['acme', 'bolt']) });
export const noone = login('noone', {});

export const session = (more: Partial<SessionToRoute> = {}): SessionToRoute => ({
  login: anyone,
  tenant: undefined,
  level: undefined,
  workflow: undefined,
  isInTransaction: false,
  isWritingTransaction: false,
  ...more,
});

export const plan = (more: Partial<StatementPlan> = {}): StatementPlan => ({
  text: '',
  start: 0,
  end: 0,
  kind: 'select',
  access: 'read',
  mayShare: false,
  touches: 'tenant',
  tenant: { from: 'unrestricted', why: 'nothing restricts it' },
  tables: ['public.orders'],
  calls: [],
  ...more,
});
