/**
 * Settings that are attached to functions, databases and roles, and would undo what the separation and the durability of tenants rest on
 * wherever they come into force: no statement gate sees them (docs/design-traps.md, ambiguity 22). Application roles are left out: what
 * they attach to themselves is put back (`roles.ts`), and routers override it when they connect.
 */
import type { ClientBase } from 'pg';
import { applicationGroup } from '#core/roles.ts';
import type { TableProblem } from './table-problems.ts';

interface Attached {
  /** A function with its arguments, a role, or a database. */
  readonly place: string;
  /** `name=value`. */
  readonly setting: string;
}

const attachedSql = `
select 'function ' || p.oid::regprocedure::text as place, c as setting
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
cross join unnest(p.proconfig) c
where n.nspname not in ('pg_catalog', 'information_schema', 'meridian') and n.nspname not like 'pg\\_temp\\_%'
union all
select concat_ws(' in ', case when r.rolname is not null then 'role ' || r.rolname end, 'database ' || coalesce(d.datname, 'any')), c
from pg_catalog.pg_db_role_setting s
left join pg_catalog.pg_database d on d.oid = s.setdatabase
left join pg_catalog.pg_roles r on r.oid = s.setrole
cross join unnest(s.setconfig) c
where (s.setdatabase = 0 or d.datname = pg_catalog.current_database())
  and (s.setrole = 0 or not pg_catalog.pg_has_role(s.setrole, '${applicationGroup}', 'MEMBER') or r.rolsuper)`;

const yes = new Set(['on', 'true', 'yes', '1']);

/** What is wrong with a setting that comes into force by itself; undefined where nothing is. */
export function weakness(setting: string): string | undefined {
  const [name = '', value = ''] = setting.toLowerCase().split('=', 2);
  switch (name) {
    case 'synchronous_commit':
      return yes.has(value) || value === 'remote_apply' ? undefined : 'commits would not wait for their followers';
    case 'row_security':
      return yes.has(value) ? undefined : 'statements of tenants would fail, and those of owners see all rows';
    case 'session_replication_role':
      return value === 'origin' ? undefined : 'the ownership check of tenants would be off';
    case 'role':
    case 'session_authorization':
      return value === 'none' || value === 'default' ? undefined : 'it would act with the rights of another role';
    default:
      return name.startsWith('meridian.') ? 'it is set by routers alone' : undefined;
  }
}

/** Connected as `meridian_operator` to the keyspace's database. */
export async function settingProblems(client: ClientBase): Promise<readonly TableProblem[]> {
  const { rows } = await client.query<Attached>(attachedSql);
  return rows.flatMap(({ place, setting }) => {
    const why = weakness(setting);
    if (why === undefined) return [];
    return [
      {
        table: place,
        reason: 'WeakeningSetting',
        message: `it has ${setting.split('=', 1)[0]} attached: ${why}`,
        hint: 'take the SET clause away (ALTER FUNCTION, ALTER ROLE or ALTER DATABASE ... RESET)',
      },
    ];
  });
}
