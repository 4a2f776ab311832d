/**
 * One random statement as a client sends it: text, parameters, and in what kind of session. Half come from the grammar of
 * `plan-soundness/statements.ts`; the others are the forms on which routers go wrong, each with right and wrong keys in its places.
 */
import { randomOf, StatementGenerator } from '#test/integration/plan-soundness/statements.ts';
import { type Tenant, tenants } from './schema.ts';

export interface FuzzStatement {
  readonly text: string;
  readonly values: readonly unknown[];
  /** open: the text decides. set: SET meridian.tenant. hinted: a comment. fixed: a role of that tenant's own. pair: as open, by a role for two. */
  readonly session: 'open' | 'pair' | 'set' | 'hinted' | 'fixed';
  /** Of the session; where it is open, the one that most of the text is about. */
  readonly tenant: Tenant;
  /** It is run in a transaction, looked at, and rolled back. */
  readonly isWrite: boolean;
  /** It is prepared by name, and has been run with these values before. */
  readonly before?: readonly unknown[];
  /** It is prepared, executed and forgotten by PREPARE, EXECUTE and DEALLOCATE. */
  readonly isPreparedInSql?: boolean;
}

/** What a form makes its text of. */
interface Words {
  /** A key as a constant: mostly the tenant's. */
  readonly key: () => string;
  /** Any key, or what looks like one. */
  readonly other: () => string;
  readonly table: () => string;
  readonly one: (...choices: string[]) => string;
  /** A parameter of that value. */
  readonly bind: (value: unknown) => string;
  readonly tenant: Tenant;
  readonly anyTenant: () => Tenant;
}

type Form = (words: Words) => string;

const reads: readonly Form[] = [
  (w) =>
    `select tenant_id, n from ${w.table()} where tenant_id = ${w.key()} ${w.one('union', 'union all', 'except', 'intersect')} select tenant_id, n from ${w.table()} where tenant_id = ${w.key()}`,
  (w) =>
    `with a as (select * from ${w.table()} where tenant_id = ${w.key()}), b as (select * from ${w.table()} where tenant_id = ${w.key()}) select a.tenant_id, a.n, b.n from a, b`,
  (w) => `select tenant_id = ${w.key()}, n from ${w.table()} ${w.one('', `where tenant_id = ${w.key()}`)}`,
  (w) =>
    `select count(*) filter (where tenant_id = ${w.key()}), sum(n) from ${w.table()} ${w.one('', `where tenant_id = ${w.key()}`)}`,
  (w) =>
    `select tenant_id, count(*) from ${w.table()} ${w.one('', `where tenant_id = ${w.key()}`)} group by ${w.one('tenant_id', '1', 'rollup (tenant_id)', 'grouping sets ((tenant_id), ())')} having ${w.one(`tenant_id = ${w.key()}`, 'count(*) > 1')}`,
  (w) =>
    `select o.n, l.n, l.tenant_id from orders o ${w.one('left', 'right', 'full', 'inner')} join lines l on ${w.one(`o.tenant_id = ${w.key()}`, `l.tenant_id = ${w.key()}`)} and l.tenant_id = o.tenant_id ${w.one('', `where o.tenant_id = ${w.key()}`, `where l.tenant_id = ${w.key()}`, 'where l.tenant_id is null')}`,
  (w) =>
    `select n from ${w.table()} where ${w.one(`tenant_id || '' = ${w.key()}`, `lower(tenant_id) = ${w.key()}`, `(tenant_id = ${w.key()}) is ${w.one('false', 'true', 'not true', 'unknown')}`, `tenant_id = ${w.key()} = true`, `not tenant_id <> ${w.key()}`, `tenant_id >= ${w.key()}`, `tenant_id like ${w.key()}`)}`,
  (w) =>
    `select tenant_id, n from ${w.table()} where tenant_id = ${w.key()} ${w.one('or', 'and')} ${w.one('n = 1', `tenant_id = ${w.other()}`, 'sku is null')}`,
  (w) =>
    `select tenant_id, n from ${w.table()} where tenant_id in (${w.one(w.key(), `${w.key()}, ${w.other()}`, `${w.key()}, lower(${w.other()})`, `${w.key()}, null`, `${w.key()}, ${w.key()}`)})`,
  (w) =>
    `select tenant_id, n from ${w.table()} where tenant_id = any (${w.one(`array[${w.key()}]`, `array[${w.key()}, ${w.other()}]`, `array[upper(${w.key()})]`, `'{${w.tenant}}'`, `'{${w.tenant},${w.anyTenant()}}'`, w.bind([w.tenant]), w.bind([w.tenant, w.anyTenant()]))})`,
  (w) =>
    `select tenant_id, n from ${w.table()} where tenant_id = ${w.one('null', 'null::text', w.bind(null), `nullif(${w.key()}, 'x')`, `(select ${w.key()})`, `${w.key()}::varchar(3)`, `${w.key()}::text`, `${w.key()} || ''`)}`,
  (w) =>
    `select o.n, s.n from orders o, stock s where o.tenant_id = ${w.bind(w.tenant)} and s.tenant_id = ${w.one(w.bind(w.anyTenant()), w.bind(w.tenant), w.key(), 'o.tenant_id')}`,
  (w) =>
    `select ${w.one('n', 'place', 'tenant_id')} from ${w.one('busy', 'totals', 'ranked', 'largest', 'both_kinds')} where tenant_id = ${w.key()}`,
  (w) =>
    `select v.n, o.n from ${w.one('busy', 'totals', 'ranked', 'both_kinds')} v join orders o on o.tenant_id = v.tenant_id where ${w.one('o', 'v')}.tenant_id = ${w.key()}`,
  (w) =>
    `select ${w.one('order_count()', 'o.doubled', 'doubled(o)', 'upper(o.sku)', 'abs(-n)')} from orders o where o.tenant_id = ${w.key()}`,
  (w) =>
    `select sku, n, row_number() over (${w.one('', 'partition by tenant_id ')}order by n, sku, row, tenant_id) from ${w.table()} where tenant_id = ${w.key()} order by ${w.one('1, 2', '2 desc, 1', 'n, sku')} limit ${w.one('1', '2', '10')} offset ${w.one('0', '1')}`,
  (w) =>
    `select n from ${w.table()} where tenant_id = ${w.key()} and now() - interval '${w.one('1 day', '2 hours')}' < now() and sku <> 'it''s' and n between -1 and ${w.one('2', '1.5', '99999999999')}`,
  (w) =>
    `select tenant_id, n from ${w.table()} where tenant_id = ${w.key()} for ${w.one('update', 'share', 'key share')}`,
  (w) =>
    w.one(
      'select count(*) from rates',
      'values (1, 2)',
      'select r.n, j.n from rates r, journal j',
      `select n from rates where sku = ${w.key()}`,
      `table ${w.table()}`,
      'select sku from journal',
      'select 1',
    ),
  (w) =>
    `select (select max(n) from ${w.table()} where tenant_id = ${w.one(w.key(), 'o.tenant_id')}), o.n from orders o where ${w.one(`o.tenant_id = ${w.key()}`, `exists (select from lines l where l.tenant_id = o.tenant_id and l.tenant_id = ${w.key()})`)}`,
  (w) =>
    `with recursive r as (select tenant_id, n from ${w.table()} where tenant_id = ${w.key()} union select ${w.one('r.tenant_id', w.key())}, l.n from lines l join r on ${w.one('l.tenant_id = r.tenant_id', 'l.n = r.n', 'l.tenant_id = r.tenant_id and l.n = r.n')}) select * from r`,
  (w) => `select n from orders where (tenant_id, n) ${w.one('=', '<>', '>=')} (${w.key()}, 1)`,
  (w) => `select n from orders where (tenant_id, n) in ((${w.key()}, 1), (${w.key()}, 2))`,
  // Functions and an operator that read tables, whatever they are declared as.
  (w) =>
    `select ${w.one('liar()', `liar_of(${w.other()})`, `liar_of(${w.key()})`)}, n from orders where tenant_id = ${w.key()}`,
  (w) =>
    `select n from ${w.table()} where tenant_id = ${w.key()} and ${w.one('sku', 'tenant_id')} === ${w.one("'s1'", w.key())}`,
  (w) => `select n from ${w.table()} where tenant_id === ${w.key()}`,
  (w) => `select n, everybodys from counted where tenant_id = ${w.key()}`,
  (w) =>
    `select tenant_id, n from ${w.table()} where tenant_id in (${w.bind(w.tenant)}, ${w.one(w.bind(w.tenant), w.bind(w.anyTenant()), w.key())})`,
  (w) =>
    `select n from ${w.table()} where tenant_id = ${w.key()}; select tenant_id, sku from ${w.table()} where tenant_id = ${w.key()}`,
  (w) =>
    `explain (costs off) select o.n from orders o ${w.one('', `join lines l on ${w.one('l.tenant_id = o.tenant_id', 'l.n = o.n')}`)} where o.tenant_id = ${w.key()}`,
];

const writes: readonly Form[] = [
  (w) =>
    `explain (analyze, costs off, timing off, summary off) update ${w.table()} set n = 8 ${w.one(`where tenant_id = ${w.key()}`, '')}`,
  (w) =>
    `insert into stock (tenant_id, sku, n) select ${w.one('tenant_id', w.key())}, 's7', liar() from orders where tenant_id = ${w.key()}`,
  (w) =>
    `insert into orders (tenant_id, sku, n) values (${w.bind(w.tenant)}, 's6', 6), (${w.one(w.bind(w.tenant), w.bind(w.anyTenant()))}, 's6', 7)`,
  (w) =>
    `insert into ${w.table()} (tenant_id, sku, n) values (${w.key()}, 'x', 1), (${w.key()}, 'y', ${w.bind(2)}::int) returning tenant_id, n`,
  (w) =>
    `insert into ${w.table()} (${w.one('sku, tenant_id', 'tenant_id, sku')}) values (${w.key()}, ${w.key()}) returning tenant_id, sku`,
  (w) =>
    `insert into orders (tenant_id, sku, n) select ${w.one('tenant_id', w.key())}, sku, n + 10 from ${w.one('lines', 'rates', 'journal')} where ${w.one(`tenant_id = ${w.key()}`, 'n is not null')} returning tenant_id, n`,
  (w) =>
    `insert into ${w.table()} ${w.one(`values (${w.key()}, 's1', 4)`, `(sku) values ('s1')`, 'default values', `(tenant_id) values (null)`, `(tenant_id) values (upper(${w.key()}))`)}`,
  (w) =>
    `insert into stock (tenant_id, sku, n, row) values (${w.key()}, 's1', 7, 1) on conflict (tenant_id, row) do ${w.one('nothing', 'update set n = stock.n + excluded.n', `update set tenant_id = ${w.key()}`, 'update set n = (select count(*) from lines)')} returning tenant_id, n`,
  (w) =>
    `update ${w.table()} set n = ${w.one('n + 1', '5', '(select count(*) from stock)', `(select count(*) from stock s where s.tenant_id = ${w.key()})`)} where tenant_id = ${w.key()} returning tenant_id, n`,
  (w) =>
    `update ${w.table()} set tenant_id = ${w.one(w.key(), 'tenant_id', w.bind(w.tenant))} where tenant_id = ${w.key()}`,
  (w) =>
    `update orders o set n = 100 + l.n from lines l where l.id = o.id and ${w.one('l.tenant_id = o.tenant_id', 'true')} and o.tenant_id = ${w.key()}`,
  (w) =>
    `delete from ${w.table()} ${w.one(`where tenant_id = ${w.key()}`, '', `where tenant_id = ${w.bind(w.tenant)} and n > 0`, `where n in (select n from lines where tenant_id = ${w.key()})`)} returning tenant_id, n`,
  (w) =>
    `delete from orders o using stock s where s.sku = o.sku and s.tenant_id = ${w.one('o.tenant_id', w.key())} and o.tenant_id = ${w.key()} returning o.n`,
  (w) =>
    `with gone as (delete from stock where tenant_id = ${w.key()} returning tenant_id, n) select g.tenant_id, g.n, o.n from gone g join orders o on ${w.one('o.tenant_id = g.tenant_id', `o.tenant_id = ${w.key()}`, 'o.n = g.n')}`,
  (w) =>
    `merge into stock t using (values (${w.key()}, 's1', 3), (${w.key()}, 's9', 4)) v(tenant, sku, n) on t.tenant_id = v.tenant and t.sku = v.sku when matched then update set n = v.n ${w.one('', `when not matched then insert (tenant_id, sku, n) values (${w.one('v.tenant', w.key())}, v.sku, v.n)`, 'when not matched by source then delete')}`,
  (w) => `update ${w.table()} set n = 1; update ${w.table()} set n = 2 where tenant_id = ${w.key()}`,
  (w) =>
    `update ${w.table()} set n = n + 1 where tenant_id = ${w.key()}; select tenant_id, n from ${w.table()} where tenant_id = ${w.key()}`,
];

const sessions = ['open', 'open', 'open', 'open', 'pair', 'set', 'hinted', 'fixed'] as const;
/** Roles of these tenants' own exist, and one for both. */
const withRole: ReadonlySet<Tenant> = new Set(['acme', 'bolt']);

export function fuzzStatement(seed: number): FuzzStatement {
  const random = randomOf(seed);
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
  const tenant = pick(tenants);
  const others = tenants.filter((one) => one !== tenant);
  const drawn = pick(sessions);
  const instead = { fixed: 'set', pair: 'open' } as const;
  const session = (drawn === 'fixed' || drawn === 'pair') && !withRole.has(tenant) ? instead[drawn] : drawn;
  const isWrite = random() < 0.35;
  const values: unknown[] = [];
  const about = (): Tenant => (random() < 0.85 ? tenant : pick(others));
  let text: string;
  if (random() < 0.45) {
    const generator = new StatementGenerator(random, [tenant, ...others]);
    text = isWrite ? generator.write() : generator.query();
    if (text.includes('$1')) values.push(about());
  } else {
    const bind = (value: unknown): string => `$${values.push(value)}`;
    const key = (): string => (random() < 0.25 ? bind(about()) : `'${about()}'`);
    text = pick(isWrite ? writes : reads)({
      key,
      other: () => (random() < 0.8 ? `'${pick(tenants)}'` : pick(["'nobody'", "'s1'", 'sku'])),
      table: () => pick(['orders', 'lines', 'stock']),
      one: (...choices) => pick(choices),
      bind,
      tenant,
      anyTenant: () => pick(tenants),
    });
  }
  // Queries may have a DELETE in WITH.
  const mayWrite = isWrite || /\b(?:insert|update|delete|merge)\b/.test(text);
  // A choice that wasn't taken may have bound a value, too.
  const used = compacted(text, values);
  const hint = session === 'hinted' ? `/* tenant='${tenant}' */ ` : '';
  const isPrepared = !mayWrite && used.values.length > 0 && random() < 0.4;
  const isPreparedInSql = !isPrepared && !mayWrite && !text.includes(';') && used.values.length > 0 && random() < 0.3;
  const before = used.values.map((value) => (typeof value === 'string' ? pick(tenants) : value));
  return {
    ...used,
    text: hint + used.text,
    session,
    tenant,
    isWrite: mayWrite,
    ...(isPrepared && { before }),
    ...(isPreparedInSql && { isPreparedInSql }),
  };
}

/** Only the parameters that the text has, numbered anew. */
function compacted(text: string, values: readonly unknown[]): { text: string; values: readonly unknown[] } {
  const kept: unknown[] = [];
  const numbers = new Map<string, number>();
  const renumbered = text.replaceAll(/\$([0-9]+)/g, (_whole, number: string) => {
    let mine = numbers.get(number);
    if (mine === undefined) {
      mine = kept.push(values[Number(number) - 1]);
      numbers.set(number, mine);
    }
    return `$${mine}`;
  });
  return { text: renumbered, values: kept };
}
