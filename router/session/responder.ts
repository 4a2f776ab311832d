/**
 * Answers to the client what needs no backend: statements about the session, transactions that nobody has begun yet, and the messages
 * of the extended protocol around them.
 */
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import { backend as code } from '../wire/codes.ts';
import {
  bindComplete,
  closeComplete,
  commandComplete,
  emptyQueryResponse,
  errorResponse,
  noData,
  noParameters,
  parseComplete,
  textDataRow,
  textRowDescription,
} from '../wire/server-messages.ts';
import type { Operation } from './batch.ts';
import { type LocalScope, localColumn, runLocal } from './local.ts';
import type { SessionSettings } from './settings.ts';
import { classOf } from './statement-class.ts';
import type { ClientStatement } from './statements.ts';
import type { ClientTransaction } from './transaction.ts';

export interface RespondingSession {
  readonly settings: SessionSettings;
  readonly transaction: ClientTransaction;
  say(bytes: Buffer): void;
  localScope(): LocalScope;
}

export class Responder {
  readonly #context: RouterContext;
  readonly #session: RespondingSession;

  constructor(context: RouterContext, session: RespondingSession) {
    this.#context = context;
    this.#session = session;
  }

  /** One statement. `isSimple`: with its row description, which the extended protocol says at Describe. @throws RouterError */
  answer({ plan }: PlannedStatement, isSimple: boolean): void {
    const { settings, transaction } = this.#session;
    this.#context.metrics.add('local_statements_total');
    if (plan.refuse !== undefined)
      throw new RouterError('Forbidden', plan.refuse.message, {
        sqlstate: plan.refuse.sqlstate,
        hint: plan.refuse.hint,
      });
    const kind = classOf(plan);
    if (kind === 'transaction') {
      const { tag, warning } = transaction.answer(plan);
      if (warning !== undefined) this.#warn(warning.sqlstate, warning.message);
      return this.#say(commandComplete(tag));
    }
    if (kind === 'setting') {
      // Said to the backend when the transaction gets one; kept now, and gone if the transaction fails.
      transaction.defer(plan.text);
      settings.apply(plan);
      return this.#say(commandComplete(plan.kind === 'reset' ? 'RESET' : 'SET'));
    }
    const answer = runLocal(plan, this.#session.localScope());
    if (answer.column !== undefined) {
      if (isSimple) this.#say(textRowDescription([answer.column]));
      this.#say(textDataRow([answer.value ?? null]));
    }
    this.#say(commandComplete(answer.tag));
  }

  /** A batch whose statements are all such. @throws RouterError */
  answerBatch(operations: readonly Operation[]): void {
    for (const operation of operations) {
      switch (operation.kind) {
        case 'parse':
          operation.statement.confirmed = true;
          this.#say(parseComplete);
          break;
        case 'bind':
          this.#say(bindComplete);
          break;
        case 'describe-statement':
          this.#say(noParameters);
          this.#describe(operation.statement);
          break;
        case 'describe-portal':
          this.#describe(operation.portal?.statement);
          break;
        case 'execute': {
          const planned = operation.portal?.statement.planned;
          if (planned === undefined) this.#say(emptyQueryResponse);
          else if (this.#session.transaction.hasFailed)
            this.#say(commandComplete(this.#session.transaction.endFailed(planned.plan)));
          else this.answer(planned, false);
          break;
        }
        case 'close-statement':
        case 'close-portal':
          this.#say(closeComplete);
          break;
      }
    }
  }

  #describe(statement: ClientStatement | undefined): void {
    const plan = statement?.planned?.plan;
    const column = plan === undefined ? undefined : localColumn(plan);
    this.#say(column === undefined ? noData : textRowDescription([column]));
  }

  #warn(sqlstate: string, message: string): void {
    const bytes = errorResponse({ severity: 'WARNING', sqlstate, message });
    bytes[0] = code.notice;
    this.#say(bytes);
  }

  #say(bytes: Buffer): void {
    this.#session.say(bytes);
  }
}
