/**
 * The words between the planner (SQL -> plan) and what uses it: pure data, no parsing here.
 * A plan says what a statement is and which tenants it is restricted to; where it runs is decided in `router/exec`.
 * Invariant: `tenant` names a tenant only if every tenant-owned relation of the statement is restricted to it.
 */
import type { FunctionCatalogue } from './functions.ts';

export type TableKind = 'tenant' | 'reference' | 'local';

export interface Catalogue {
  /** Grows with every change; plans of another version are not used. */
  readonly version: number;
  readonly tenantColumn: string;
  /** Keyed `schema.table`. */
  readonly tables: ReadonlyMap<string, TableKind>;
  readonly searchPath: readonly string[];
  /** Definitions of views among them, with every name qualified. */
  readonly views: ReadonlyMap<string, string>;
  /** Differs where a column has another type, or there are other casts; of no meaning by itself. */
  readonly columnTypes?: string;
  readonly functions: FunctionCatalogue;
  /** Unqualified names of functions that may leave something behind in their session or the database. */
  readonly volatileFunctions: ReadonlySet<string>;
}

/**
 * `values` are constants of the text, `indexes` parameters from 1, `literals` constants that the plan doesn't know, since it is for every
 * statement that differs in them only (`literals.ts`): their texts come with the statement (`PlannedStatement.keys`), in the same order.
 * With `mustAgree` the tables are restricted by different ones of these: only if all come to one tenant is the statement restricted at all.
 */
export type TenantSource =
  | { readonly from: 'none' }
  | {
      readonly from: 'constant';
      readonly values: readonly string[];
      readonly literals?: readonly number[];
      readonly mustAgree?: boolean;
    }
  | {
      readonly from: 'parameters';
      readonly indexes: readonly number[];
      readonly values: readonly string[];
      readonly literals?: readonly number[];
      readonly mustAgree?: boolean;
    }
  /** `names` and `literals`: what restricts some table all the same. A session of another tenant should not run it. */
  | {
      readonly from: 'unrestricted';
      readonly why: string;
      readonly names?: readonly string[];
      readonly literals?: readonly number[];
    };

export type StatementKind =
  | 'select'
  | 'insert'
  | 'update'
  | 'delete'
  | 'merge'
  | 'copy'
  | 'transaction'
  | 'set'
  | 'show'
  | 'reset'
  | 'discard'
  | 'prepare'
  | 'execute'
  | 'deallocate'
  | 'listen'
  | 'unlisten'
  | 'notify'
  | 'declare'
  | 'fetch'
  | 'close'
  | 'explain'
  | 'call'
  | 'do'
  | 'utility';

export type TransactionVerb =
  | 'begin'
  | 'commit'
  | 'rollback'
  | 'savepoint'
  | 'release'
  | 'rollback-to'
  | 'prepare'
  | 'commit-prepared'
  | 'rollback-prepared';

export interface StatementPlan {
  readonly text: string;
  /** Byte offsets of the statement in the whole text. */
  readonly start: number;
  readonly end: number;
  readonly kind: StatementKind;
  readonly access: 'read' | 'write';
  /**
   * Its answer is the same whether or not others' statements run on the same connection before and after it, each with a Sync of
   * its own: a plain SELECT that locks and writes nothing and calls no volatile function at all (pg_sleep, random) and none but
   * Postgres' own, whatever it touches being known. Says nothing of how long it takes, nor of the transaction and the settings that it runs in.
   */
  readonly mayShare: boolean;
  readonly touches: 'nothing' | 'reference' | 'tenant' | 'unknown';
  readonly tenant: TenantSource;
  /** `schema.table` of the catalogue's tables in the statement, each once. */
  readonly tables: readonly string[];
  /** Lower-case unqualified names of the functions called anywhere in the statement, each once. */
  readonly calls: readonly string[];
  /** kind 'transaction'. `readOnly`: BEGIN READ ONLY. `name`: of the savepoint. `chain`: AND CHAIN. */
  readonly transaction?: {
    readonly verb: TransactionVerb;
    readonly readOnly?: boolean;
    readonly name?: string;
    readonly chain?: boolean;
  };
  /** kind 'set'. `name` in lower case (`timezone` for SET TIME ZONE). `value` absent: TO DEFAULT, FROM CURRENT or several values. */
  readonly set?: {
    readonly name: string;
    readonly value?: string;
    readonly local: boolean;
    readonly toDefault?: boolean;
  };
  /** kinds 'show' and 'reset'; name 'all' for ALL. */
  readonly show?: { readonly name: string };
  readonly reset?: { readonly name: string };
  /** kind 'discard': all | plans | sequences | temp. */
  readonly discard?: { readonly what: string };
  /** kinds prepare, execute, deallocate: the statement's name; absent for DEALLOCATE ALL. */
  readonly prepared?: { readonly name?: string };
  /** kind 'copy': to the client (out) or from it (in); `from` says what comes in. */
  readonly copy?: { readonly direction: 'in' | 'out'; readonly from?: CopySource };
  /** kinds listen, unlisten, notify; absent for UNLISTEN *. */
  readonly channel?: string;
  /** kind 'notify'. */
  readonly payload?: string;
  /** kind 'declare': WITH HOLD. */
  readonly hold?: boolean;
  /** CREATE TEMP, SELECT INTO TEMP. */
  readonly temporary?: boolean;
  /** A temporary table that goes with its transaction (ON COMMIT DROP). */
  readonly dropsAtCommit?: boolean;
  /** Names of the settings that set_config() sets for longer than the transaction, in lower case. */
  readonly configures?: readonly string[];
  /** EXPLAIN (ROUTE): the plan of what is explained, and how many parameters it has. */
  readonly explained?: { readonly plan: StatementPlan; readonly parameterCount: number };
  /** What the statement gate forbids, with what to tell the client. */
  readonly refuse?: Refusal;
}

/** COPY ... FROM, as it was said: names aren't resolved, values aren't checked. */
export interface CopySource {
  readonly schema?: string;
  readonly table: string;
  /** Absent where none are named: all of the table's. */
  readonly columns?: readonly string[];
  /** By lower-case name; '' for one without a value, a list for lists of columns ('*' for all). */
  readonly options: Readonly<Record<string, string | readonly string[]>>;
  readonly hasCondition: boolean;
}

export interface Refusal {
  readonly sqlstate: string;
  readonly message: string;
  readonly hint?: string;
}

export interface Hints {
  readonly tenant?: string;
  readonly consistency?: string;
  /** As in `meridian.max_staleness`. */
  readonly maxStaleness?: string;
  /** What another session has seen: counts as seen by this one from here on. */
  readonly token?: string;
}

export interface Planner {
  /** One plan per statement of the text, none for an empty one. Throws PlanError on a syntax error. */
  plan(sql: string, catalogue: Catalogue): StatementPlan[];
  /**
   * The same, and where the text is one statement, the plan of all statements that differ from it in `constants` only, with what it
   * leaves open; undefined where there is none, since the plan depends on them. @throws PlanError
   */
  planShape(sql: string, constants: Constants, catalogue: Catalogue): { plans: StatementPlan[]; shaped?: ShapedPlan };
  /** Hints in a leading comment of the text. */
  parseHints(sql: string): Hints;
}

/** The constants of a text, as a scanner found them: where each begins, in bytes of UTF-8. */
export interface Constants {
  readonly count: number;
  start(index: number): number;
  /** As a key that is compared with a tenant's; undefined where it is none. */
  key(index: number): string | undefined;
}

export interface ShapedPlan {
  readonly plan: StatementPlan;
  /** Constants, by index, that may not differ: their place gives their value a meaning (ORDER BY 1, types, intervals). */
  readonly pinned: readonly number[];
  /** Absent where the statement isn't said with any. */
  readonly parameters?: Parameters;
}

/** Constants that may as well be parameters (`parameters.ts`), by index. */
export interface Parameters {
  readonly constants: readonly number[];
  /** By where they stand. */
  readonly guards: readonly Guard[];
}

/**
 * A prepared statement's parameter keeps the type that its column had when the statement was made. Said beside the comparison, `AND (true
 * OR ARRAY[column] OPERATOR(pg_catalog.=) $n)` gives $n the type of an array of the column's; once the column has another type, the
 * statement can't be analysed any more, since arrays are compared with their like only ("Polymorphic Types", anyarray). Nothing is left
 * of it in a plan.
 */
export interface Guard {
  /** The constant that it stands behind. */
  readonly after: number;
  /** As it can be said in SQL. */
  readonly column: string;
}

/** A statement that the grammar refuses; `position` counts characters from 1, as Postgres does. */
export class PlanError extends Error {
  readonly sqlstate: string;
  readonly hint: string | undefined;
  readonly position: number | undefined;

  constructor(sqlstate: string, message: string, options: { hint?: string; position?: number } = {}) {
    super(message);
    this.name = 'PlanError';
    this.sqlstate = sqlstate;
    this.hint = options.hint;
    this.position = options.position;
  }
}
