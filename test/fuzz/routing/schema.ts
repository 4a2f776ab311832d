/**
 * The tables that the routing fuzz asks about, in two forms with the same rows: as a migration of a keyspace, and plain, once with all
 * rows and once for each tenant. The tables are those of `plan-soundness/statements.ts`, with a key that no statement names, and views,
 * functions and an operator over them, some of them declared as what they are not.
 */

export type Tenant = 'acme' | 'bolt' | 'cord';
/** As `router-keyspace.ts` has them: acme and cord on one shard, bolt on the other. */
export const tenants: readonly [Tenant, ...Tenant[]] = ['acme', 'bolt', 'cord'];

const key = 'tenant_id text not null';
const row = 'row int not null default (random() * 2e9)::int';

const definitions = `
create table orders (${key}, id int, sku text, n int, ${row}, primary key (tenant_id, row));
create table lines (${key}, id int, sku text, n int, ${row}, primary key (tenant_id, row));
create table stock (${key}, sku text, n int, ${row}, primary key (tenant_id, row));
create table rates (sku text primary key, n int);
create view busy as select tenant_id, id, n from orders where n > 0;
create view totals as select tenant_id, count(*) as n from orders group by tenant_id;
create view ranked as select tenant_id, n, rank() over (order by n, sku, tenant_id) as place from lines;
create view largest as select max(tenant_id) as tenant_id, max(n) as n from stock;
create view both_kinds as select tenant_id, n from orders union all select tenant_id, n from lines;
create function order_count() returns bigint language sql stable as 'select count(*) from orders';
create function doubled(o orders) returns int language sql stable as 'select o.n * 2 + (select count(*)::int from stock)';
create function liar() returns bigint language sql immutable as 'select count(*) from orders';
create function liar_of(key text) returns text language plpgsql immutable as $$ begin return (select max(sku) || count(*) from lines where tenant_id = key); end $$;
create function many(text, text) returns boolean language sql immutable as 'select $1 = $2 or (select count(*) from stock) > 3';
create operator === (leftarg = text, rightarg = text, function = many);
create view counted as select tenant_id, n, order_count() as everybodys from orders;
insert into rates values ('s1', 1), ('s2', 2), ('acme', 3);
`;

const journal = `create table journal (sku text, n int); insert into journal values ('s1', 1), ('s3', null);`;

/** Of one tenant. */
const rowsOf = (tenant: Tenant, schema = ''): string => {
  const index = tenants.indexOf(tenant);
  return `
insert into ${schema}orders select '${tenant}', i, 's' || i, (i * 7 + ${index}) % 4, i from generate_series(0, 2) i;
insert into ${schema}orders values ('${tenant}', null, null, null, 9);
insert into ${schema}lines select '${tenant}', i, 's' || i % 2 + 1, (i * 3 + ${index}) % 4, i from generate_series(0, 2) i;
insert into ${schema}stock select '${tenant}', 's' || i, i, i from generate_series(0, 2) i;`;
};

export const migration = `${definitions}
grant select, insert, update, delete on orders, lines, stock to meridian_application;
grant select on rates, busy, totals, ranked, largest, both_kinds, counted to meridian_application;
`;

/** Made beside the migrations: of no known kind. */
export const unknownTable = `set role meridian_owner; ${journal} grant select on journal to meridian_application; reset role;`;

/** As it is given to the router, by a role for any tenant. */
export const fillOf = rowsOf;

export const everything = 'everything';
export const only = (tenant: Tenant): string => `only_${tenant}`;

export const tables = ['orders', 'lines', 'stock'] as const;

/** For a database of its own. */
export const plain = [everything, ...tenants.map(only)]
  .map((schema) => {
    const filled = tenants.filter((tenant) => schema === everything || schema === only(tenant));
    return `create schema ${schema}; set search_path = ${schema}; ${definitions} ${journal} ${filled.map((tenant) => rowsOf(tenant)).join('')}`;
  })
  .join('\n');
