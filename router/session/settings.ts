/**
 * The settings of a client's session, as it believes them to be: generic ones (replayed on whatever backend it gets) and
 * Meridian's own (which the router answers itself). They follow transactions as Postgres' do: what is set in one is kept when it
 * commits, is gone when it fails, and goes back to a savepoint with it; LOCAL lasts to the end of the transaction.
 * State is replaced, never changed, so that a snapshot is a reference.
 */
import { RouterError } from '../errors.ts';
import type { ConsistencyLevel } from '../map/map.ts';
import type { StatementPlan } from '../plan/types.ts';
import { quoteLiteral } from '../pool/hygiene.ts';

export interface MeridianSettings {
  readonly tenant?: string | undefined;
  readonly level?: ConsistencyLevel | undefined;
  readonly workflow?: string | undefined;
  /** Of bounded reads. */
  readonly maxStalenessMs?: number | undefined;
  /** How long a causal read waits for a follower. */
  readonly causalWaitMs?: number | undefined;
  /** What becomes of a read that no follower can serve: it goes to the primary, or fails. */
  readonly whenBehind?: 'primary' | 'error' | undefined;
  /** The client is told its token after each commit. */
  readonly reportToken?: boolean | undefined;
  /** The last one that was handed over; what the session has seen since is not in it. */
  readonly token?: string | undefined;
}

interface State {
  /** Lower-case name -> the statement that sets it. */
  readonly generic: ReadonlyMap<string, string>;
  readonly session: MeridianSettings;
  readonly local: MeridianSettings;
  /** SET LOCAL of Postgres' own settings, as they were said, for as long as they last. */
  readonly localTexts: readonly string[];
  /** What set search_path for this transaction only; '' where that isn't known. */
  readonly localPath?: string | undefined;
}

/** Settings that change neither how a statement is read nor what comes out of it. */
const meaningless: ReadonlySet<string> = new Set([
  'application_name',
  'statement_timeout',
  'lock_timeout',
  'transaction_timeout',
  'idle_in_transaction_session_timeout',
  'client_min_messages',
]);

/** What settings and savepoints of one session may take. */
const maxBytes = 1024 * 1024;
const savepointBytes = 256;

export class SessionSettings {
  /** What the start-up packet said: what RESET goes back to. */
  readonly #initial: State;
  #committed: State;
  #current: State;
  #savepoints: { readonly name: string; readonly state: State }[] = [];
  #text: string;
  /** Texts of what was set in this transaction: savepoints keep each of its states. */
  #bytesSet = 0;
  #meaning: { readonly of: State; readonly text: string } | undefined;

  constructor(startup: ReadonlyMap<string, string>, session: MeridianSettings) {
    const generic = new Map<string, string>();
    for (const [name, value] of startup) generic.set(name, setConfig(name, value));
    this.#initial = { generic, session, local: {}, localTexts: [] };
    this.#committed = this.#initial;
    this.#current = this.#initial;
    this.#text = textOf(this.#initial);
  }

  get meridian(): MeridianSettings {
    const { session, local } = this.#current;
    return {
      tenant: local.tenant ?? session.tenant,
      level: local.level ?? session.level,
      workflow: local.workflow ?? session.workflow,
      maxStalenessMs: local.maxStalenessMs ?? session.maxStalenessMs,
      causalWaitMs: local.causalWaitMs ?? session.causalWaitMs,
      whenBehind: local.whenBehind ?? session.whenBehind,
      reportToken: local.reportToken ?? session.reportToken,
      token: local.token ?? session.token,
    };
  }

  /** Tenant of the session, LOCAL apart, if its transaction fails. */
  get formerTenant(): string | undefined {
    return this.#committed.session.tenant;
  }

  /** And if it doesn't. */
  get nextTenant(): string | undefined {
    return this.#current.session.tenant;
  }

  /** Statements that give a backend the settings of the last committed state; '' for none. */
  get replayText(): string {
    return this.#text;
  }

  /** The settings of now as far as they bear on what a statement means: the same text for sessions that have the same ones. */
  get meaning(): string {
    const state = this.#current;
    if (this.#meaning?.of !== state) {
      const lasting = [...state.generic].flatMap(([name, text]) => (meaningless.has(name) ? [] : [text]));
      this.#meaning = { of: state, text: [...lasting, ...state.localTexts].join('\n;') };
    }
    return this.#meaning.text;
  }

  /** The statement that sets search_path now; undefined where it has the server's value, '' where that isn't known. */
  get searchPath(): string | undefined {
    return this.#current.localPath ?? this.#current.generic.get('search_path');
  }

  /** Something in this transaction may have set it unseen. */
  losePath(): void {
    this.#current = { ...this.#current, localPath: '' };
  }

  /** @throws RouterError where statements set, or mark, more than a session may have. */
  expectRoom(statements: readonly { readonly plan: StatementPlan }[]): void {
    let bytes = 0;
    for (const { plan } of statements) {
      if (plan.kind === 'set') bytes += plan.text.length;
      else if (plan.transaction?.verb === 'savepoint') bytes += savepointBytes;
    }
    if (bytes === 0) return;
    const kept = this.#text.length + this.#bytesSet + this.#savepoints.length * savepointBytes;
    if (kept + bytes > maxBytes)
      throw new RouterError(
        'TooMuchKept',
        `this session keeps more than ${maxBytes} bytes of settings and savepoints`,
        {
          hint: 'Use fewer savepoints in a transaction, and fewer and shorter settings.',
        },
      );
  }

  /** The statement that sets a generic setting now; undefined where it has the server's own value. */
  generic(name: string): string | undefined {
    return this.#current.generic.get(name);
  }

  /**
   * A SET or RESET of Postgres' own settings has been completed. True when it went back to the server's value: the backend has that
   * one now, whatever the start-up packet of this session says.
   */
  apply(plan: StatementPlan): boolean {
    this.#bytesSet += plan.text.length;
    if (plan.set?.local === true)
      this.#current = { ...this.#current, localTexts: [...this.#current.localTexts, plan.text] };
    if (namesPath(plan))
      this.#current = { ...this.#current, localPath: plan.set?.local === true ? plan.text : undefined };
    if (plan.kind === 'reset' || plan.set?.toDefault === true) {
      const name = plan.reset?.name ?? plan.set?.name ?? 'all';
      if (plan.set?.local === true) return false;
      if (name === 'all') this.resetAll();
      else this.resetGeneric(name);
      return true;
    }
    if (plan.set !== undefined && !plan.set.local && isKept(plan.set.name, plan.text))
      this.setGeneric(plan.set.name, plan.text);
    return false;
  }

  setGeneric(name: string, statement: string): void {
    const generic = new Map(this.#current.generic);
    // Last in order: a setting may depend on one before (SET names, then a value in them).
    generic.delete(name);
    generic.set(name, statement);
    this.#current = { ...this.#current, generic };
  }

  /** A function has set it, and its transaction is over. False where there is no room for it. */
  configured(name: string, value: string): boolean {
    if (this.#text.length + value.length > maxBytes) return false;
    this.setGeneric(name, setConfig(name, value));
    this.commit();
    return true;
  }

  resetGeneric(name: string): void {
    const generic = new Map(this.#current.generic);
    const initial = this.#initial.generic.get(name);
    if (initial === undefined) generic.delete(name);
    else generic.set(name, initial);
    this.#current = { ...this.#current, generic };
  }

  set(values: MeridianSettings, isLocal: boolean): void {
    this.#bytesSet += (values.tenant?.length ?? 0) + (values.workflow?.length ?? 0);
    if (isLocal) this.#current = { ...this.#current, local: { ...this.#current.local, ...values } };
    else {
      const local: Record<string, unknown> = { ...this.#current.local };
      // A later SET of the session shows over an earlier SET LOCAL.
      for (const name of Object.keys(values)) delete local[name];
      this.#current = { ...this.#current, session: { ...this.#current.session, ...values }, local };
    }
  }

  reset(name: keyof MeridianSettings): void {
    this.set({ [name]: this.#initial.session[name] }, false);
  }

  resetAll(): void {
    this.#current = { ...this.#initial };
  }

  savepoint(name: string): void {
    this.#savepoints.push({ name, state: this.#current });
  }

  rollbackTo(name: string): void {
    const index = this.#savepoints.findLastIndex((savepoint) => savepoint.name === name);
    const found = this.#savepoints[index];
    if (found === undefined) return;
    this.#current = found.state;
    this.#savepoints.length = index + 1;
  }

  release(name: string): void {
    const index = this.#savepoints.findLastIndex((savepoint) => savepoint.name === name);
    if (index !== -1) this.#savepoints.length = index;
  }

  commit(): void {
    this.#savepoints = [];
    this.#bytesSet = 0;
    if (this.#current === this.#committed) return;
    this.#current = { ...this.#current, local: {}, localTexts: [], localPath: undefined };
    this.#committed = this.#current;
    this.#text = textOf(this.#current);
  }

  rollback(): void {
    this.#current = this.#committed;
    this.#savepoints = [];
    this.#bytesSet = 0;
  }
}

const setConfig = (name: string, value: string): string =>
  `SELECT pg_catalog.set_config(${quoteLiteral(name)}, ${quoteLiteral(value)}, false)`;

/** SET and RESET of search_path. */
export const namesPath = (plan: StatementPlan): boolean =>
  (plan.set?.name ?? plan.reset?.name) === 'search_path' || plan.reset?.name === 'all';

/** SET TRANSACTION and its settings last for the transaction only; FROM CURRENT changes nothing. */
const isKept = (name: string, text: string): boolean =>
  (!name.startsWith('transaction') || name === 'transaction_timeout') && !/\sfrom\s+current\s*;?\s*$/i.test(text);

/** On lines of their own: the statements are the client's own words, and one may end in a comment. */
const textOf = (state: State): string => [...state.generic.values()].join('\n;');
