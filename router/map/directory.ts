/**
 * The router's copy of what Postgres knows: who may log in, which tables are tenant-owned, which functions are volatile.
 * Read from any member that answers, as `meridian_router`, primaries first: a follower can be behind. Refreshed from time to time,
 * when the map changes, and (not often) after an unknown user. While no member answers, what was known last holds.
 */
import type { SecureContext } from 'node:tls';
import type { Logger } from 'pino';
import { routerRole } from '#core/roles.ts';
import { FunctionCatalogue } from '../plan/functions.ts';
import type { Catalogue, TableKind } from '../plan/types.ts';
import { Backend } from '../pool/backend.ts';
import { connectToMember } from '../pool/connect.ts';
import { fingerprintSql, functionRowsOf, functionsSql, volatileNames } from './function-rows.ts';
import { type Login, loginOfRow } from './logins.ts';
import { type ClusterMap, distance, type MemberView } from './map.ts';

export interface DirectoryOptions {
  readonly map: () => ClusterMap | undefined;
  readonly clientContext: () => SecureContext;
  readonly region: string;
  readonly refreshMs: number;
  /** The shortest time between two refreshes that an unknown user asks for. */
  readonly unknownUserMs: number;
  readonly timeoutMs: number;
  readonly log: Logger;
}

interface Contents {
  readonly logins: ReadonlyMap<string, Login>;
  readonly catalogue: Catalogue;
  /** ParameterStatus values of a session there, for clients that have no backend yet. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** What one reading of a member gave. */
interface Read extends Omit<Contents, 'catalogue'> {
  readonly tables: Map<string, TableKind>;
  readonly views: Map<string, string>;
  readonly columnTypes: string;
  readonly functions: FunctionsRead;
}

/** Kept as long as members say the same. */
interface FunctionsRead extends Pick<Catalogue, 'functions' | 'volatileFunctions'> {
  readonly fingerprint: string;
  readonly text: string;
}

/** Until when a declared role that no member knows keeps a new router from being ready. */
const patienceMs = 20_000;
/** Between two readings while something declared isn't known yet. */
const soonMs = 500;

const loginsSql = `SELECT pg_catalog.row_to_json(l)::text FROM meridian.router_logins() AS l`;
/** Said first: what isn't in pg_catalog is then named with its schema in the definitions of views. */
const noPathSql = `SET search_path TO ''`;
const viewsSql = `SELECT n.nspname, c.relname, pg_catalog.pg_get_viewdef(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'meridian') AND n.nspname !~ '^pg_temp_' ORDER BY 1, 2`;
/** By name: shards number types differently. Casts of one's own as well, by which values become of another type. */
const columnTypesSql = `SELECT pg_catalog.md5(pg_catalog.string_agg(
  pg_catalog.concat_ws(' ', n.nspname, c.relname, a.attname, t.typname), ',' ORDER BY n.nspname, c.relname, a.attnum
)) || (
  SELECT coalesce(pg_catalog.string_agg(one, ',' ORDER BY one COLLATE "C"), '') FROM (
    SELECT pg_catalog.concat_ws(' ', k.castsource::pg_catalog.regtype, k.casttarget::pg_catalog.regtype, k.castcontext, k.castmethod)
    FROM pg_catalog.pg_cast k WHERE k.oid >= 16384
  ) AS casts (one)
)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('information_schema', 'meridian') AND n.nspname !~ '^pg_'`;
const catalogueSql = `SELECT schema_name, table_name, kind FROM meridian.router_catalogue()`;

export class Directory {
  readonly #options: DirectoryOptions;
  #contents: Contents | undefined;
  #version = 0;
  #refreshing: Promise<boolean> | undefined;
  #lastUnknownMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  /** No member answered the last time. */
  #isSilent = false;
  #firstReadMs = Number.POSITIVE_INFINITY;
  #wasComplete = false;
  readonly #searchPaths = new Map<string, Catalogue>();
  #functions: FunctionsRead | undefined;

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  /**
   * A new router takes no clients before it knows every declared role: "no such role" would be wrong a moment later. It doesn't wait
   * for ever, since a role that can't be made mustn't keep the others out; and once it is ready it stays so.
   */
  get isReady(): boolean {
    if (this.#contents === undefined) return false;
    this.#wasComplete ||= this.#isComplete || performance.now() - this.#firstReadMs > patienceMs;
    return this.#wasComplete;
  }

  get #isComplete(): boolean {
    const logins = this.#contents?.logins;
    return logins !== undefined && (this.#options.map()?.keyspace.roles ?? []).every((role) => logins.has(role));
  }

  get parameters(): ReadonlyMap<string, string> {
    return this.#contents?.parameters ?? new Map();
  }

  /** The catalogue as a session with that search path sees it. */
  catalogue(searchPath: readonly string[]): Catalogue {
    const contents = this.#contents;
    if (contents === undefined) throw new Error('the catalogue has not been read');
    const key = searchPath.join('\0');
    let catalogue = this.#searchPaths.get(key);
    if (catalogue === undefined) {
      if (this.#searchPaths.size > 1_000) this.#searchPaths.clear();
      catalogue = { ...contents.catalogue, searchPath };
      this.#searchPaths.set(key, catalogue);
    }
    return catalogue;
  }

  /**
   * Waits only while nothing at all is known. For an unknown user it has what is known read again behind the answer, so that a role
   * that was just made can log in a moment later: the time that an answer takes must not say whether there is such a user.
   */
  async login(role: string): Promise<Login | undefined> {
    const known = this.#contents?.logins.get(role);
    if (known !== undefined) return known;
    if (this.#contents === undefined) {
      await this.refresh();
      return this.current(role);
    }
    const now = performance.now();
    if (now - this.#lastUnknownMs < this.#options.unknownUserMs) return undefined;
    this.#lastUnknownMs = now;
    void this.refresh();
    return undefined;
  }

  /** The login as it is now, for sessions that exist. */
  current(role: string): Login | undefined {
    return this.#contents?.logins.get(role);
  }

  start(): void {
    const again = (): void => {
      this.#timer = setTimeout(
        () => {
          void this.refresh().finally(again);
        },
        this.#isComplete ? this.#options.refreshMs : Math.min(this.#options.refreshMs, soonMs),
      );
      this.#timer.unref();
    };
    void this.refresh().finally(() => {
      if (!this.#isStopped) again();
    });
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /** One at a time; resolves to whether a member answered. */
  refresh(): Promise<boolean> {
    this.#refreshing ??= this.#read().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #read(): Promise<boolean> {
    const map = this.#options.map();
    if (map === undefined) return false;
    const members = [...map.members.values()].toSorted(
      (a, b) =>
        Number(b.ready) - Number(a.ready) ||
        Number(isPrimary(map, b)) - Number(isPrimary(map, a)) ||
        distance(map, this.#options.region, a.region) - distance(map, this.#options.region, b.region),
    );
    for (const member of members) {
      try {
        this.#take(map, await this.#readFrom(map, member));
        this.#isSilent = false;
        return true;
      } catch (error) {
        this.#options.log.debug({ member: member.name, err: error }, 'catalogue not read');
      }
    }
    // Said once: it is tried again and again until a member answers.
    if (!this.#isSilent) this.#options.log.warn({ members: members.length }, 'no member gives the catalogue');
    this.#isSilent = true;
    return false;
  }

  #take(map: ClusterMap, read: Read): void {
    this.#version += 1;
    const before = this.#contents?.catalogue;
    const isSame =
      before !== undefined &&
      before.tenantColumn === map.keyspace.tenantColumn &&
      sameEntries(before.tables, read.tables) &&
      sameEntries(before.views, read.views) &&
      before.columnTypes === read.columnTypes &&
      before.functions === read.functions.functions;
    const catalogue: Catalogue = isSame
      ? before
      : {
          version: this.#version,
          tenantColumn: map.keyspace.tenantColumn,
          tables: read.tables,
          searchPath: ['public'],
          views: read.views,
          columnTypes: read.columnTypes,
          functions: read.functions.functions,
          volatileFunctions: read.functions.volatileFunctions,
        };
    if (!isSame) this.#searchPaths.clear();
    this.#firstReadMs = Math.min(this.#firstReadMs, performance.now());
    this.#contents = { logins: read.logins, parameters: read.parameters, catalogue };
  }

  async #readFrom(map: ClusterMap, member: MemberView): Promise<Read> {
    const connection = await connectToMember({
      member,
      role: routerRole,
      database: map.keyspace.database,
      context: this.#options.clientContext(),
      timeoutMs: this.#options.timeoutMs,
    });
    const backend = new Backend(
      connection.socket,
      {
        member: member.name,
        role: routerRole,
        processId: connection.processId,
        secret: connection.secret,
        generation: '',
        primaryEpoch: 0,
        postmaster: connection.postmaster,
      },
      connection.parameters,
      performance.now(),
      () => undefined,
    );
    const timer = setTimeout(() => backend.close('too slow'), this.#options.timeoutMs);
    try {
      await rowsOf(backend, noPathSql);
      const [logins, tables, views, columnTypes, functions] = await Promise.all([
        rowsOf(backend, loginsSql),
        rowsOf(backend, catalogueSql),
        rowsOf(backend, viewsSql),
        rowsOf(backend, columnTypesSql),
        this.#readFunctions(backend),
      ]);
      return {
        logins: new Map(logins.map((row) => loginOfJson(row[0] ?? '{}')).map((login) => [login.role, login])),
        tables: new Map(tables.map(([schema, table, kind]) => [`${schema}.${table}`, kindOf(kind)])),
        views: new Map(views.map(([schema, name, text]) => [`${schema}.${name}`, text ?? ''])),
        columnTypes: columnTypes[0]?.[0] ?? '',
        functions,
        parameters: connection.parameters,
      };
    } finally {
      clearTimeout(timer);
      backend.close('done');
    }
  }

  /** Shards number their functions differently, but have the same ones: then what was read first stays. */
  async #readFunctions(backend: Backend): Promise<FunctionsRead> {
    const known = this.#functions;
    const fingerprint = (await rowsOf(backend, fingerprintSql))[0]?.[0] ?? '';
    if (known?.fingerprint === fingerprint) return known;
    const read = await rowsOf(backend, functionsSql);
    const text = JSON.stringify(read);
    const rows = functionRowsOf(read);
    this.#functions =
      known?.text === text
        ? { ...known, fingerprint }
        : { fingerprint, text, functions: new FunctionCatalogue(rows), volatileFunctions: volatileNames(rows) };
    return this.#functions;
  }
}

const isPrimary = (map: ClusterMap, member: MemberView): boolean =>
  map.shards.get(member.shard)?.primary === member.name;

async function rowsOf(backend: Backend, sql: string): Promise<OwnRows> {
  const { rows, error } = await backend.query(sql);
  if (error !== undefined) throw new Error(`${error.get('M')} (${error.get('C')}) for: ${sql}`);
  return rows;
}

type OwnRows = readonly (readonly (string | null)[])[];

const kindOf = (text: string | null | undefined): TableKind =>
  text === 'tenant' || text === 'reference' ? text : 'local';

function loginOfJson(text: string): Login {
  const row = JSON.parse(text) as Record<string, unknown>;
  const list = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);
  return loginOfRow({
    role: String(row['role']),
    verifiers: list(row['verifiers']),
    anyTenant: row['any_tenant'] === true,
    tenants: list(row['tenants']),
    formerUntil: typeof row['valid_until'] === 'string' ? row['valid_until'] : null,
    until: typeof row['login_until'] === 'string' ? row['login_until'] : null,
  });
}

function sameEntries(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.get(key) === value);
}
