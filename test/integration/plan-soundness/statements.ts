/**
 * Random statements over five small tables, three of tenants, one that is the same everywhere, one of which nothing is known, biased
 * towards what misleads a router: keys compared in all sorts of places,
 * outer joins, derived tables with LIMIT or windows, names that shadow others, aggregates over nothing, writes with FROM.
 * Many are refused by Postgres (an ambiguous name, say); that costs nothing. The same random numbers give the same text.
 */

export const tables = {
  orders: ['tenant_id', 'id', 'sku', 'n'],
  lines: ['tenant_id', 'id', 'sku', 'n'],
  stock: ['tenant_id', 'sku', 'n'],
  rates: ['sku', 'n'],
  journal: ['sku', 'n'],
} as const;

type Table = keyof typeof tables;

interface Item {
  readonly alias: string;
  readonly columns: readonly string[];
}

/** What names mean at one place. */
interface Place {
  readonly items: Item[];
  readonly outer: Place | undefined;
  ctes: readonly { readonly name: string; readonly columns: readonly string[] }[];
}

interface Fragment {
  readonly sql: string;
  readonly items: readonly Item[];
}

interface Query {
  readonly sql: string;
  readonly columns: readonly string[];
}

const placeIn = (outer: Place | undefined, items: Item[] = []): Place => ({ items, outer, ctes: outer?.ctes ?? [] });
const isNumber = (column: string): boolean => column === 'id' || column === 'n' || column.startsWith('i');
const isKey = (column: string): boolean => column === 'tenant_id' || column === 't';

/** Numbers from 0 to below 1, the same for the same seed: mulberry32. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class StatementGenerator {
  readonly #random: () => number;
  readonly #keys: readonly [string, ...string[]];
  #aliases = 0;

  /**
   * @param random gives numbers from 0 to below 1.
   * @param keys the tenants, the one that most statements are about first.
   */
  constructor(random: () => number, keys: readonly [string, ...string[]] = ['a', 'b', 'c']) {
    this.#random = random;
    this.#keys = keys;
  }

  #upTo(count: number): number {
    return Math.floor(this.#random() * count);
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  #one<T>(choices: readonly T[]): T {
    return choices[this.#upTo(choices.length)] as T;
  }

  #alias(): string {
    this.#aliases += 1;
    return this.#chance(0.15) ? this.#one(['o', 'l', 's']) : `x${this.#aliases}`;
  }

  #key(): string {
    if (this.#chance(0.1)) return '$1';
    return this.#quoted(this.#chance(0.9) ? this.#keys[0] : this.#one(this.#keys));
  }

  #quoted(text: string): string {
    return `'${text}'`;
  }

  /** A column in sight, nearer ones first; undefined where there is none. */
  #column(place: Place, fits: (column: string) => boolean, outward: number): string | undefined {
    const found: string[] = [];
    for (let at: Place | undefined = place; at !== undefined; at = at.outer) {
      for (const { alias, columns } of at.items)
        for (const column of columns.filter(fits)) found.push(this.#chance(0.85) ? `${alias}.${column}` : column);
      if (!this.#chance(outward)) break;
    }
    return found.length === 0 ? undefined : this.#one(found);
  }

  #keyColumn(place: Place, outward = 0.4): string | undefined {
    return this.#column(place, isKey, outward);
  }

  #number(place: Place, depth: number): string {
    if (depth > 0 && this.#chance(0.12)) return `(${this.#scalar(place, depth - 1, true)})`;
    return (this.#chance(0.8) ? this.#column(place, isNumber, 0.25) : undefined) ?? String(this.#upTo(4));
  }

  #text(place: Place, depth: number): string {
    if (depth > 0 && this.#chance(0.08)) return `(${this.#scalar(place, depth - 1, false)})`;
    const column = this.#column(place, (name) => !isNumber(name), 0.25);
    return (this.#chance(0.85) ? column : undefined) ?? this.#one(["'s1'", "'s2'", this.#quoted(this.#keys[0])]);
  }

  #scalar(outer: Place, depth: number, isNumeric: boolean): string {
    const place = placeIn(outer);
    const from = this.#from(place, depth);
    const value = isNumeric
      ? this.#one(['count(*)', `sum(${this.#number(place, 0)})`, `max(${this.#number(place, 0)})`])
      : `max(${this.#text(place, 0)})`;
    return `select ${value} from ${from} where ${this.#condition(place, depth, 0.7)}`;
  }

  #aboutKey(place: Place): string {
    const column = this.#keyColumn(place);
    if (column === undefined) return 'true';
    const other = this.#keyColumn(place, 0.6) ?? column;
    const misleading = [
      `${column} <> ${this.#key()}`,
      `(${column} = ${this.#key()}) is not true`,
      `not ${column} = ${this.#key()}`,
      `${column} = ${this.#key()} or ${column} = ${this.#quoted(this.#one(this.#keys))}`,
      `${column} is null`,
      `coalesce(${column}, ${this.#key()}) = ${this.#key()}`,
      `${column} in (${this.#key()}, ${this.#quoted(this.#one(this.#keys))})`,
    ];
    const choices = [
      `${column} = ${this.#key()}`,
      `${column} = ${this.#key()}`,
      `${column} = ${this.#key()}`,
      `${column} = ${other}`,
      `${column} = ${other}`,
      `${this.#key()} = ${column}`,
      `${column} in (${this.#key()})`,
      `${column} = any (array[${this.#key()}])`,
      `(${column}, 1) = (${this.#key()}, 1)`,
      `(${this.#one(misleading)})`,
    ];
    return this.#one(choices);
  }

  #conjunct(place: Place, depth: number): string {
    switch (this.#upTo(8)) {
      case 0:
        return `${this.#number(place, depth)} ${this.#one(['=', '<', '<>', '>='])} ${this.#number(place, depth)}`;
      case 1:
        return `${this.#text(place, depth)} = ${this.#text(place, depth)}`;
      case 2:
        return depth > 0 ? `${this.#one(['', 'not '])}exists (${this.#inner(place, depth - 1, '1')})` : 'true';
      case 3: {
        if (depth === 0) return 'true';
        const left = this.#number(place, 0);
        return `${left} ${this.#one(['', 'not '])}in (${this.#inner(place, depth - 1, 'number')})`;
      }
      case 4:
        return `(${this.#aboutKey(place)} or ${this.#aboutKey(place)})`;
      default:
        return this.#aboutKey(place);
    }
  }

  #condition(place: Place, depth: number, bias: number): string {
    const parts: string[] = [];
    if (this.#chance(bias)) parts.push(this.#aboutKey(place));
    if (this.#chance(0.55)) parts.push(this.#aboutKey(place));
    while (this.#chance(0.35)) parts.splice(this.#upTo(parts.length + 1), 0, this.#conjunct(place, depth));
    return parts.length === 0 ? 'true' : parts.join(' and ');
  }

  #inner(outer: Place, depth: number, target: '1' | 'number'): string {
    const place = placeIn(outer);
    const from = this.#from(place, depth);
    const value = target === '1' ? '1' : this.#number(place, 0);
    return `select ${value} from ${from} where ${this.#condition(place, depth, 0.75)}`;
  }

  #table(place: Place): Fragment {
    const alias = this.#alias();
    if (place.ctes.length > 0 && this.#chance(0.5)) {
      const { name, columns } = this.#one(place.ctes);
      return { sql: `${name} ${alias}`, items: [{ alias, columns }] };
    }
    const table = this.#chance(0.03)
      ? 'journal'
      : this.#one<Table>(['orders', 'orders', 'lines', 'lines', 'stock', 'rates']);
    return { sql: `${table} ${alias}`, items: [{ alias, columns: tables[table] }] };
  }

  #fromItem(place: Place, depth: number, lateral: Place): Fragment {
    const choice = depth > 0 ? this.#upTo(10) : 0;
    const alias = this.#alias();
    if (choice > 5 && choice < 9) {
      const isLateral = this.#chance(0.4);
      const { sql, columns } = this.#query(isLateral ? lateral : { ...place, items: [] }, depth - 1, isLateral);
      return { sql: `${isLateral ? 'lateral ' : ''}(${sql}) ${alias}`, items: [{ alias, columns }] };
    }
    if (choice === 9) {
      const rows = this.#one([`(${this.#key()}, 1)`, `(${this.#key()}, 1), (${this.#key()}, 2)`]);
      return { sql: `(values ${rows}) ${alias}(tenant_id, n)`, items: [{ alias, columns: ['tenant_id', 'n'] }] };
    }
    return this.#table(place);
  }

  #joins(place: Place, depth: number): Fragment {
    let left = this.#fromItem(place, depth, place);
    while (this.#chance(0.4)) {
      const lateral: Place = { ...place, items: [...place.items, ...left.items] };
      const right = this.#chance(0.15) ? this.#parenthesised(place, depth) : this.#fromItem(place, depth, lateral);
      left = this.#join(place, depth, left, right);
    }
    return left;
  }

  #join(place: Place, depth: number, left: Fragment, right: Fragment): Fragment {
    const items = [...left.items, ...right.items];
    const kind = this.#one(['join', 'join', 'left join', 'left join', 'right join', 'full join', 'cross join']);
    const columnsOf = (side: Fragment): readonly string[] => side.items.flatMap(({ columns }) => columns);
    const shared = columnsOf(right).filter((column) => columnsOf(left).includes(column));
    const sides = `${left.sql} ${kind} ${right.sql}`;
    if (kind === 'cross join') return { sql: sides, items };
    if (shared.length > 0 && this.#chance(0.2)) {
      if (this.#chance(0.3)) return { sql: `${left.sql} natural ${kind} ${right.sql}`, items };
      const using = shared.includes('tenant_id') && this.#chance(0.5) ? ['tenant_id'] : [...new Set(shared)];
      return { sql: `${sides} using (${using.join(', ')})`, items };
    }
    const on: Place = { items, outer: place.outer, ctes: place.ctes };
    return { sql: `${sides} on ${this.#condition(on, kind === 'full join' ? 0 : depth - 1, 0.6)}`, items };
  }

  #parenthesised(place: Place, depth: number): Fragment {
    const { sql, items } = this.#joins({ ...place, items: [] }, depth);
    this.#aliases += 1;
    return { sql: `(${sql} cross join rates z${this.#aliases})`, items };
  }

  #from(place: Place, depth: number): string {
    const parts: string[] = [];
    do {
      const { sql, items } = this.#joins(place, depth);
      place.items.push(...items);
      parts.push(sql);
    } while (this.#chance(0.25));
    return parts.join(', ');
  }

  #with(place: Place, depth: number): string {
    if (depth <= 0 || !this.#chance(0.2)) return '';
    this.#aliases += 1;
    const name = `c${this.#aliases}`;
    const { sql, columns } = this.#chance(0.15)
      ? {
          sql: `delete from stock where ${this.#condition({ ...place, items: [{ alias: 'stock', columns: tables.stock }], outer: undefined }, 0, 0.9)} returning tenant_id, n`,
          columns: ['tenant_id', 'n'],
        }
      : this.#query({ ...place, items: [] }, depth - 1, false);
    place.ctes = [...place.ctes, { name, columns }];
    return `with ${name} as ${this.#one(['', 'materialized ', 'not materialized '])}(${sql}) `;
  }

  /** @param seesItems whether the items of the place are in sight of the query (LATERAL), or only what is around it. */
  #query(around: Place, depth: number, seesItems: boolean): Query {
    const outer = seesItems ? around : around.outer;
    const inside = (): Place => ({ items: [], outer, ctes: around.ctes });
    if (depth > 0 && this.#chance(0.15)) {
      const branch = (): string => {
        const place = inside();
        const from = this.#from(place, depth - 1);
        const key = this.#keyColumn(place, 0) ?? this.#key();
        return `select ${key} as tenant_id, ${this.#number(place, 0)} as n from ${from} where ${this.#condition(place, depth - 1, 0.8)}`;
      };
      const operation = this.#one(['union', 'union all', 'intersect', 'except']);
      return { sql: `${branch()} ${operation} ${branch()}`, columns: ['tenant_id', 'n'] };
    }
    const place = inside();
    const prefix = this.#with(place, depth);
    const from = this.#from(place, depth);
    const where = `from ${from} where ${this.#condition(place, depth, 0.7)}`;
    return { ...this.#result(place, depth, where, prefix) };
  }

  #result(place: Place, depth: number, where: string, prefix: string): Query {
    const key = this.#keyColumn(place, 0.1) ?? this.#key();
    const number = this.#number(place, depth);
    const own: Place = { ...place, outer: undefined };
    const keyed = ['tenant_id', 'n'];
    switch (this.#upTo(9)) {
      case 0: {
        const having = this.#one(['', '', 'having count(*) > 1', `having ${key} = ${this.#key()}`]);
        return {
          sql: `${prefix}select ${key} as tenant_id, count(*) as n ${where} group by ${key} ${having}`,
          columns: keyed,
        };
      }
      case 1: {
        const window = this.#one(['', `partition by ${key}`]);
        return { sql: `${prefix}select ${key} as tenant_id, count(*) over (${window}) as n ${where}`, columns: keyed };
      }
      case 2:
        return {
          sql: `${prefix}select count(*) as n, max(${this.#text(own, 0)}) as sku ${where}`,
          columns: ['n', 'sku'],
        };
      case 3: {
        const outerKey = place.outer === undefined ? undefined : this.#keyColumn(place.outer);
        if (outerKey === undefined) break;
        return { sql: `${prefix}select ${outerKey} as tenant_id, count(*) as n ${where}`, columns: keyed };
      }
      case 4: {
        const [only] = place.items;
        if (only === undefined || place.items.length > 1) break;
        return { sql: `${prefix}select * ${where}`, columns: only.columns };
      }
      case 5:
        return { sql: `${prefix}select distinct ${key} as t, ${number} as n ${where}`, columns: ['t', 'n'] };
      case 6: {
        const limit = `order by 1, 2 limit ${1 + this.#upTo(3)}`;
        return { sql: `${prefix}select ${key} as tenant_id, ${number} as n ${where} ${limit}`, columns: keyed };
      }
      default:
        break;
    }
    return { sql: `${prefix}select ${key} as tenant_id, ${number} as n ${where}`, columns: keyed };
  }

  /** Few conditions, at the one place where it matters whether they reach a table. */
  #pointed(): string {
    const table = (): string => this.#one(['orders', 'lines']);
    const filter = this.#one(['true', 'i.n > 0', `i.tenant_id = ${this.#key()}`, 'i.tenant_id is not null']);
    const inner = this.#one([
      `select * from ${table()} i where ${filter}`,
      `select i.tenant_id, i.n from ${table()} i where ${filter} order by 2, 1 limit ${1 + this.#upTo(4)}`,
      `select i.tenant_id, i.n from ${table()} i where ${filter} order by 2, 1 offset ${1 + this.#upTo(3)}`,
      `select i.tenant_id, count(*) over () as n from ${table()} i where ${filter}`,
      `select i.tenant_id, rank() over (order by i.n, i.tenant_id) as n from ${table()} i where ${filter}`,
      `select distinct on (i.n) i.tenant_id, i.n from ${table()} i where ${filter} order by i.n, i.tenant_id desc`,
      `select distinct i.tenant_id, i.n from ${table()} i where ${filter}`,
      `select max(i.tenant_id) as tenant_id, count(*) as n from ${table()} i where ${filter}`,
      `select i.tenant_id, count(*) as n from ${table()} i where ${filter} group by rollup (i.tenant_id)`,
      `select i.tenant_id, count(*) as n from ${table()} i where ${filter} group by i.tenant_id`,
      `select i.tenant_id, i.n from ${table()} i where ${filter} union select ${this.#key()}, i.n from ${table()} i`,
      `select coalesce(j.tenant_id, ${this.#key()}) as tenant_id, i.n from ${table()} i left join stock j on j.n = i.n where ${filter}`,
      `select i.sku as tenant_id, i.n from ${table()} i where ${filter}`,
      `select j.tenant_id, i.n from ${table()} i left join ${table()} j on j.tenant_id = i.tenant_id and ${this.#one(['true', filter])}`,
    ]);
    const key = this.#key();
    const link = this.#one(['i.tenant_id = o.tenant_id', 'i.n = o.n', 'true']);
    const from = `from ${table()} i where ${link} and i.tenant_id = ${this.#one([key, key, 'o.tenant_id'])}`;
    const lateral = this.#one([
      `select count(*) as n ${from}`,
      `select o.tenant_id as t, count(*) as n ${from}`,
      `select i.tenant_id as t, i.n ${from} order by 1, 2 limit 2`,
      `select max(i.tenant_id) as t ${from}`,
      `select i.tenant_id as t, count(*) as n ${from} group by i.tenant_id`,
    ]);
    const kind = this.#one(['join', 'left join', 'right join', 'full join']);
    const on = this.#one(['o.tenant_id = p.tenant_id', `o.tenant_id = ${key}`, `p.tenant_id = ${key}`]);
    const where = this.#one([`o.tenant_id = ${key}`, `p.tenant_id = ${key}`, 'true', 'p.tenant_id is null']);
    return this.#one([
      `select x.* from (${inner}) x where x.tenant_id = ${key}`,
      `with x as (${inner}) select x.* from x where x.tenant_id = ${key}`,
      `with x as (${inner}) select p.* from x join ${table()} p on p.tenant_id = x.tenant_id`,
      `select o.n, x.* from ${table()} o, lateral (${lateral}) x where ${this.#one(['true', 'x.n > 0', `o.tenant_id = ${key}`])}`,
      `select o.n, p.n from ${table()} o, lateral (${lateral}) x join ${table()} p on p.tenant_id = x.t`,
      `select o.n, p.n from ${table()} o ${kind} ${table()} p on ${on} and ${this.#one([on, 'o.n = p.n', `p.tenant_id = ${key}`])} where ${where}`,
      `select n from ${table()} o ${kind} ${table()} p using (tenant_id, n) where ${this.#one([where, `tenant_id = ${key}`])}`,
    ]);
  }

  query(): string {
    return this.#chance(0.3) ? this.#pointed() : this.#query(placeIn(undefined), 3, false).sql;
  }

  write(): string {
    const table = this.#one<Table>(['orders', 'lines', 'stock']);
    const target: Item = { alias: 'target', columns: tables[table] };
    const source = placeIn(undefined);
    const from = this.#from(source, this.#one([0, 1, 2]));
    const both: Place = { items: [target, ...source.items], outer: undefined, ctes: [] };
    const alone: Place = { ...both, items: [target] };
    const withFrom = this.#chance(0.5);
    const where = this.#condition(withFrom ? both : alone, 2, 0.8);
    switch (this.#upTo(4)) {
      case 0: {
        const keySet = this.#chance(0.1) ? `, tenant_id = ${this.#key()}` : '';
        const returned = this.#chance(0.4) ? `(${this.#scalar(alone, 0, true)})` : '1';
        return `update ${table} target set n = ${this.#number(alone, 1)}${keySet} ${withFrom ? `from ${from}` : ''} where ${where} returning target.tenant_id, ${returned}`;
      }
      case 1:
        return `delete from ${table} target ${withFrom ? `using ${from}` : ''} where ${where} returning target.tenant_id, target.n`;
      case 2: {
        const key = this.#one([this.#key(), this.#keyColumn(source, 0) ?? this.#key()]);
        return `insert into ${table} (tenant_id, sku, n) select ${key}, ${this.#text(source, 0)}, ${this.#number(source, 1)} from ${from} where ${this.#condition(source, 1, 0.8)} returning tenant_id, n`;
      }
      default:
        return this.#merge(table, target);
    }
  }

  #merge(table: Table, target: Item): string {
    const values: Query = { sql: `values (${this.#key()}, 1)`, columns: ['tenant_id', 'n'] };
    const { sql, columns } = this.#chance(0.6) ? this.#query(placeIn(undefined), 1, false) : values;
    const source: Item = { alias: 'source', columns };
    const both: Place = { items: [target, source], outer: undefined, ctes: [] };
    const key = this.#one([this.#key(), this.#keyColumn({ ...both, items: [source] }, 0) ?? this.#key()]);
    const actions = [
      this.#one(['when matched then delete', 'when matched then update set n = 9', '']),
      this.#one([`when not matched then insert (tenant_id, sku, n) values (${key}, 'new', 7)`, '']),
      this.#one(['when not matched by source then delete', '', '', '']),
    ].join(' ');
    const some = actions.trim() === '' ? 'when matched then do nothing' : actions;
    return `merge into ${table} target using (${sql}) source(${columns.join(', ')}) on ${this.#condition(both, 0, 0.8)} ${some}`;
  }
}
