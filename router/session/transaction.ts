/**
 * The client's transaction as the client believes it to be: begun, failed, ended. It may have begun for the client and for no backend
 * yet (BEGIN binds nothing until a statement needs a shard), and it may have failed for the client while the backend knows nothing
 * of it (the router refused a statement). Settings follow it. Leaves backends to loan.ts.
 */
import { RouterError } from '../errors.ts';
import type { StatementPlan } from '../plan/types.ts';
import { transactionStatus as tx } from '../wire/codes.ts';
import type { SessionSettings } from './settings.ts';

interface Lazy {
  /** BEGIN as the client said it, and what it has said since that waits for a backend. */
  readonly texts: string[];
  readonly readOnly: boolean;
}

export interface LocalTransactionAnswer {
  readonly tag: string;
  readonly warning?: { readonly sqlstate: string; readonly message: string };
}

/** What a client may have said of a transaction that no backend has. */
const maxLazyBytes = 1024 * 1024;

export class ClientTransaction {
  readonly #settings: SessionSettings;
  /** As in ReadyForQuery. */
  status: number = tx.idle;
  #lazy: Lazy | undefined;
  #lazyBytes = 0;
  #isReadOnly = false;
  /** The router refused a statement in it: for the client it has failed, whatever the backend says. */
  isRefused = false;
  /** Something has been sent in it that may have taken a number from a sequence. */
  hasDrawn = false;
  /** Why it is lost, where that couldn't be said when it happened. */
  #unsaid: RouterError | undefined;

  constructor(settings: SessionSettings) {
    this.#settings = settings;
  }

  get isIdle(): boolean {
    return this.status === tx.idle;
  }

  get isOpen(): boolean {
    return this.status === tx.open;
  }

  get hasFailed(): boolean {
    return this.status === tx.failed;
  }

  get isReadOnly(): boolean {
    return this.#isReadOnly;
  }

  /** Begun for the client, and for no backend. */
  get isLazy(): boolean {
    return this.#lazy !== undefined;
  }

  begin(text: string, readOnly: boolean): void {
    this.#lazy = { texts: [text], readOnly };
    this.#lazyBytes = text.length;
    this.#isReadOnly = readOnly;
    this.hasDrawn = false;
    this.status = tx.open;
  }

  /** A statement that will be sent when the transaction gets its backend. @throws RouterError when they are too many. */
  defer(text: string): void {
    if (this.#lazy === undefined) return;
    this.#lazyBytes += text.length;
    if (this.#lazyBytes > maxLazyBytes)
      throw new RouterError(
        'TooMuchKept',
        `more than ${maxLazyBytes} bytes of statements wait for the transaction's place`,
        {
          hint: 'Read or write something before, so that the transaction has its shard.',
        },
      );
    this.#lazy.texts.push(text);
  }

  /** What a backend has to be told first; it is then no longer lazy. */
  takeLazy(): readonly string[] {
    const texts = this.#lazy?.texts ?? [];
    this.#lazy = undefined;
    return texts;
  }

  /** The backend that was being told it is lost, before anything else was sent there: another has to be told. */
  keepLazy(texts: readonly string[]): void {
    if (texts.length === 0) return;
    this.#lazy = { texts: [...texts], readOnly: this.#isReadOnly };
  }

  /** An open transaction fails; `atBackend`: a backend has it and doesn't know. */
  fail(atBackend: boolean): void {
    this.status = tx.failed;
    this.isRefused = atBackend;
    this.#lazy = undefined;
  }

  /** It was lost with its backend while nothing was under way: said with the next statement, since nothing may be said unasked. */
  loseSilently(error: RouterError): void {
    this.#unsaid = error;
  }

  /** Why a statement can't run in the failed transaction. */
  aborted(): RouterError {
    const unsaid = this.#unsaid;
    this.#unsaid = undefined;
    return (
      unsaid ??
      new RouterError(
        'TransactionAborted',
        'current transaction is aborted, commands ignored until end of transaction block',
      )
    );
  }

  /**
   * A failed one that no backend has ends: ROLLBACK, whatever the client called it. Returns the tag.
   * @throws RouterError the loss that the client hasn't been told of, where it says COMMIT: drivers pass over a ROLLBACK there.
   */
  endFailed(plan: StatementPlan): string {
    const unsaid = this.#unsaid;
    this.#unsaid = undefined;
    this.#settings.rollback();
    this.status = tx.idle;
    this.isRefused = false;
    if (unsaid !== undefined && plan.transaction?.verb === 'commit') throw unsaid;
    return 'ROLLBACK';
  }

  /** The backend was lost with it. `ending`: its end had been sent, so for the client it is over. */
  lose(ending: boolean): void {
    if (this.isIdle) return;
    if (!ending) return this.fail(false);
    this.status = tx.idle;
    this.ended(true);
  }

  /** The backend says that no transaction is open any more. */
  ended(hasFailed: boolean): void {
    if (hasFailed) this.#settings.rollback();
    else this.#settings.commit();
    this.#isReadOnly = false;
    this.isRefused = false;
  }

  /** BEGIN, COMMIT and the like while no backend has the transaction. @throws RouterError where there is none to steer. */
  answer(plan: StatementPlan): LocalTransactionAnswer {
    const verb = plan.transaction?.verb ?? 'begin';
    switch (verb) {
      case 'begin': {
        const tag = /\bstart\s+transaction/i.test(plan.text) ? 'START TRANSACTION' : 'BEGIN';
        if (this.#lazy !== undefined)
          return { tag, warning: { sqlstate: '25001', message: 'there is already a transaction in progress' } };
        this.begin(plan.text, plan.transaction?.readOnly === true);
        return { tag };
      }
      case 'commit':
      case 'rollback':
        return this.#end(verb, plan.transaction?.chain === true);
      default:
        if (this.#lazy === undefined)
          throw new RouterError('NoTransaction', `${verb.toUpperCase()} can only be used in transaction blocks`);
        this.defer(plan.text);
        this.apply(plan, '');
        if (verb === 'savepoint') return { tag: 'SAVEPOINT' };
        return { tag: verb === 'release' ? 'RELEASE' : 'ROLLBACK' };
    }
  }

  #end(verb: 'commit' | 'rollback', chain: boolean): LocalTransactionAnswer {
    const begun = this.#lazy;
    const tag = verb === 'commit' ? 'COMMIT' : 'ROLLBACK';
    this.#lazy = undefined;
    this.status = tx.idle;
    if (verb === 'commit') this.#settings.commit();
    else this.#settings.rollback();
    if (begun === undefined)
      return { tag, warning: { sqlstate: '25P01', message: 'there is no transaction in progress' } };
    if (chain) this.begin(begun.texts[0] as string, begun.readOnly);
    return { tag };
  }

  /** A statement about transactions was completed, with that command tag. */
  apply(plan: StatementPlan, tag: string): void {
    const { verb, name = '', readOnly = false } = plan.transaction ?? { verb: 'begin' };
    switch (verb) {
      case 'begin':
        if (this.isIdle) this.#isReadOnly = readOnly;
        break;
      case 'commit':
        // The COMMIT of a failed transaction is a rollback, and says so.
        if (tag === 'ROLLBACK') this.#settings.rollback();
        else this.#settings.commit();
        break;
      case 'rollback':
        this.#settings.rollback();
        break;
      case 'savepoint':
        this.#settings.savepoint(name);
        break;
      case 'release':
        this.#settings.release(name);
        break;
      case 'rollback-to':
        this.#settings.rollbackTo(name);
        break;
      default:
    }
  }
}

/** How a statement ends a failed transaction; undefined where it doesn't. */
export function endsFailure(plan: StatementPlan): 'transaction' | 'savepoint' | undefined {
  const verb = plan.transaction?.verb;
  if (verb === 'commit' || verb === 'rollback') return 'transaction';
  return verb === 'rollback-to' ? 'savepoint' : undefined;
}

const committing: ReadonlySet<string> = new Set(['commit', 'prepare', 'commit-prepared']);

/** A statement that may commit something, whatever transaction it runs in. */
export const mayCommit = (plan: StatementPlan): boolean =>
  plan.kind === 'transaction'
    ? committing.has(plan.transaction?.verb ?? '')
    : plan.kind === 'call' || plan.kind === 'do' || plan.kind === 'utility';
