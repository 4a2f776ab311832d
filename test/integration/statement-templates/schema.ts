/** A table with a column of each type, and what else conditions can be about. */
import type { Catalogue } from '#router/plan/index.ts';
import { functionsWith } from '#test/unit/router/plan/golden/functions.ts';

export const schemaSql = `
create type mood as enum ('sad', 'ok', 'happy');
create type pair as (x int, y text);
create domain positive as int check (value > 0);
create domain code as varchar(3) check (value <> 'bad');
create domain digits as numeric(4, 1);
create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table kinds (
  id int primary key, i2 smallint, i4 int, i8 bigint, f4 real, f8 double precision, n numeric, n2 numeric(6, 2),
  t text, v varchar(10), c char(6), q "char", nm name, bl text collate blind, cc text collate "C",
  d date, ts timestamp, tz timestamptz, tm time, tmz timetz, iv interval,
  b boolean, by bytea, u uuid, ip inet, ci cidr, mac macaddr, bi bit(4), vb varbit, j jsonb, o oid, rc regclass, m money,
  r int4range, tr tstzrange, a int[], ta text[], p pair, e mood, po positive, co code, di digits, ts0 timestamp(0), l pg_lsn, x tid,
  g int generated always as (i4 * 2) stored
);
insert into kinds select n, n, n, n, n / 2.0, n / 2.0, n / 2.0, n / 2.0,
  (array['abc', '', 'o''x', 'é', '1', 'now'])[n % 6 + 1], (array['abc', '', 'ab ', '1'])[n % 4 + 1], (array['abc', '', 'ab', '1'])[n % 4 + 1],
  (array['a', '', '1'])[n % 3 + 1]::"char", (array['abc', 'kinds'])[n % 2 + 1], (array['abc', 'ABC', 'x'])[n % 3 + 1], (array['abc', 'ABC', 'x'])[n % 3 + 1],
  date '2020-01-01' + n, timestamp '2020-01-01' + n * interval '12 hours', timestamptz '2020-01-01 00:00+00' + n * interval '12 hours',
  time '00:00' + n * interval '1 hour', timetz '00:00+00' + n * interval '1 hour', n * interval '1 day',
  n % 2 = 0, decode('0' || n % 10, 'hex'), ('00000000-0000-0000-0000-00000000000' || n % 10)::uuid, ('10.0.0.' || n)::inet, '10.0.0.0/8', '08:00:2b:01:02:03',
  (n % 16)::bit(4), '101', jsonb_build_object('a', n), n, 'kinds', n, int4range(n, n + 2), tstzrange('2020-01-01', '2020-01-02'), array[n, 2], array['a', n::text], row(n, 'a')::pair,
  (array['sad', 'ok', 'happy'])[n % 3 + 1]::mood, n + 1, 'abc', n / 2.0, '2020-01-01 12:00', '0/10', '(0,1)'
from generate_series(0, 20) n;
insert into kinds (id) values (100);
create index on kinds (i4);
create index on kinds (t) where i4 > 5;
create view small as select id, i4, t, v || '' as v, 'x' as label from kinds where i4 < 10;
create table parts (id int, k text, n numeric, primary key (id, k)) partition by list (k);
create table parts_a partition of parts for values in ('a', 'abc');
create table parts_other partition of parts default;
insert into parts select n, (array['a', 'b', 'abc'])[n % 3 + 1], n from generate_series(1, 30) n;
create table owned (tenant_id text, id int, body varchar(20), primary key (tenant_id, id));
insert into owned select (array['a', 'b'])[n % 2 + 1], n, 'body' || n from generate_series(1, 20) n;
alter table owned enable row level security;
create policy own on owned using (id < 15);
alter table owned force row level security;
create table orders (tenant_id text, id int, sku text, n int);
create table lines (tenant_id text, id int, sku text, n int);
create table stock (tenant_id text, sku text, n int);
create table rates (sku text, n int);
create table journal (sku text, n int);
insert into orders select t, i, 's' || i, (i * 7) % 4 from unnest(array['a', 'b', 'c']) t, generate_series(0, 2) i;
insert into lines select t, i, 's' || i % 2 + 1, (i * 3) % 4 from unnest(array['a', 'b', 'c']) t, generate_series(0, 2) i;
insert into stock select t, 's' || i, i from unnest(array['a', 'b', 'c']) t, generate_series(0, 2) i;
insert into rates values ('s1', 1), ('s2', 2), ('a', 3);
create role reader login;
grant select on all tables in schema public to reader;
analyze`;

export const columns =
  'id i2 i4 i8 f4 f8 n n2 t v c q nm bl cc d ts tz tm tmz iv b by u ip ci mac bi vb j o rc m r tr a ta p e po co di ts0 l x g'.split(
    ' ',
  );
export const types =
  'int bigint smallint numeric float8 text varchar bpchar name date timestamp timestamptz time timetz interval boolean bytea uuid inet jsonb oid regclass money int4range int[] pair mood positive code digits varchar(3) char(3) numeric(4,1) timestamp(0)'.split(
    ' ',
  );

export const catalogue: Catalogue = {
  version: 1,
  tenantColumn: 'tenant_id',
  searchPath: ['public'],
  tables: new Map([
    ...['owned', 'orders', 'lines', 'stock'].map((name) => [`public.${name}`, 'tenant'] as const),
    ...[
      'kinds',
      'small',
      'parts',
      'rates',
      'journal',
      'changing',
      'changing_labels',
      'changing_names',
      'changing_types',
    ].map((name) => [`public.${name}`, 'reference'] as const),
  ]),
  views: new Map(),
  functions: functionsWith(),
  volatileFunctions: new Set(),
};

/** Constants that members might read otherwise as parameters, as they stand in texts. */
export const integers = ['0', '1', '2', '7', '10', '007', '16', '32767', '32768', '2147483647', '00000000000000000001'];
export const bigIntegers = [
  '2147483648',
  '4294967295',
  '4294967296',
  '99999999999',
  '123456789012345678',
  '999999999999999999',
  '1000000000000000000',
  '9223372036854775807',
  '9223372036854775808',
  '99999999999999999999999',
];
export const decimals = [
  '1.0',
  '1.',
  '0.10',
  '3.5',
  '2.50',
  '0.5',
  '100000.005',
  '2147483648.5',
  '0.0000000000000000000000001',
];
export const strings = [
  "''",
  "'abc'",
  "'ABC'",
  "'abc '",
  "'  abc'",
  "'o''x'",
  "''''",
  "'é'",
  "'日本'",
  "'a\\b'",
  "'\\x00'",
  "'\\x01'",
  "'%'",
  "'x'",
  "'now'",
  "'today'",
  "'epoch'",
  "'0'",
  "'1'",
  "' 1 '",
  "'007'",
  "'1.0'",
  "'1.'",
  "'1e2'",
  "'0x10'",
  "'1_000'",
  "'-1'",
  "'+1'",
  "'2147483648'",
  "'9223372036854775808'",
  "'NaN'",
  "'nan'",
  "'infinity'",
  "'-Infinity'",
  "'2020-01-02'",
  "'2020-01-02 12:00'",
  "'2020-01-02 12:00+02'",
  "'Jan 3 2020'",
  "'03/04/2020'",
  "'2020-02-30'",
  "'20200102'",
  "'2020-01-02T12:00:00.5Z'",
  "'12:00'",
  "'12:00 America/New_York'",
  "'24:00'",
  "'allballs'",
  "'1 day'",
  "'P1D'",
  "'1-2'",
  "'3 days ago'",
  "'t'",
  "'true'",
  "'YES'",
  "'off'",
  "'00000000-0000-0000-0000-000000000001'",
  "'{00000000000000000000000000000001}'",
  "'10.0.0.1'",
  "'10.0.0.0/8'",
  "'10.0.0.1/8'",
  "'08002b:010203'",
  "'0001'",
  "'10'",
  "'x1'",
  '\'{"a": 1}\'',
  '\'{"a":1}\'',
  "'[1]'",
  "'null'",
  "'kinds'",
  "'public.kinds'",
  "'nonesuch'",
  "'$1.00'",
  "'1,000.50'",
  "'[1,3)'",
  "'[1,2]'",
  "'(,)'",
  "'empty'",
  "'[2,1]'",
  "'{1,2}'",
  "'{}'",
  "'{a,1}'",
  "'{{1},{2}}'",
  "'(1,2)'",
  "'(1,a)'",
  "'(,)'",
  "'sad'",
  "'happy'",
  "'SAD'",
  "'bad'",
  "'abcd'",
  "'abcdefghijklmnop'",
  "'ab'",
  `'${'long'.repeat(20)}'`,
  "'0/10'",
  "'0/zz'",
  "'(0,1)'",
  "'12345.67'",
  "'a\nb'",
  "'--'",
  "'/*'",
  "'$1'",
];
