/**
 * Answers to the client what needs no backend: statements about the session, transactions that nobody has begun yet, and the messages
 * of the extended protocol around them.
 */
import type { RouterContext } from '../context.ts';
import { RouterError } from '../errors.ts';
import { explainColumns } from '../exec/explain-route.ts';
import type { PlannedStatement } from '../exec/plan-cache.ts';
import type { StatementToRoute } from '../exec/route.ts';
import { backend as code } from '../wire/codes.ts';
import {
  bindComplete,
  closeComplete,
  commandComplete,
  emptyQueryResponse,
  errorResponse,
  noData,
  noParameters,
  parameterDescription,
  parseComplete,
  textDataRow,
  textOid,
  textRowDescription,
} from '../wire/server-messages.ts';
import type { Operation } from './batch.ts';
import { type LocalScope, localColumn, runLocal } from './local.ts';
import type { SessionRouting } from './session-routing.ts';
import type { SessionSettings } from './settings.ts';
import { classOf } from './statement-class.ts';
import type { ClientStatement } from './statements.ts';
import type { ClientTransaction } from './transaction.ts';

export interface RespondingSession {
  readonly settings: SessionSettings;
  readonly transaction: ClientTransaction;
  readonly routing: Pick<SessionRouting, 'explain'>;
  say(bytes: Buffer): void;
  localScope(): LocalScope;
}

/** Of EXPLAIN (ROUTE). */
type Bound = Pick<StatementToRoute, 'parameters' | 'parameterTypes'>;

/** The only local statement that may have any. Of those whose type the client doesn't say any text will do. */
function parametersOf({ planned, parameterTypes }: ClientStatement): Buffer {
  const count = planned?.plan.explained?.parameterCount ?? 0;
  if (count === 0) return noParameters;
  return parameterDescription(Array.from({ length: count }, (_, index) => parameterTypes[index] || textOid));
}

export class Responder {
  readonly #context: RouterContext;
  readonly #session: RespondingSession;

  constructor(context: RouterContext, session: RespondingSession) {
    this.#context = context;
    this.#session = session;
  }

  /** One statement. `isSimple`: with its row description, which the extended protocol says at Describe. @throws RouterError */
  answer(statement: PlannedStatement, isSimple: boolean, bound: Bound = {}): void {
    const { plan } = statement;
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
    if (plan.explained !== undefined) {
      const lines = this.#session.routing.explain(statement, plan.explained.plan, bound);
      if (isSimple) this.#say(textRowDescription(explainColumns));
      for (const line of lines) this.#say(textDataRow(line));
      return this.#say(commandComplete('EXPLAIN'));
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
    const bounds = new Map<ClientStatement, Bound>();
    for (const operation of operations) {
      switch (operation.kind) {
        case 'parse':
          operation.statement.confirmed = true;
          this.#say(parseComplete);
          break;
        case 'bind':
          bounds.set(operation.statement, {
            parameters: (index) => operation.bind.parameter(index),
            parameterTypes: operation.statement.parameterTypes,
          });
          this.#say(bindComplete);
          break;
        case 'describe-statement':
          this.#say(parametersOf(operation.statement));
          this.#describe(operation.statement);
          break;
        case 'describe-portal':
          this.#describe(operation.portal?.statement);
          break;
        case 'execute': {
          const statement = operation.portal?.statement;
          const planned = statement?.planned;
          if (planned === undefined) this.#say(emptyQueryResponse);
          else if (this.#session.transaction.hasFailed)
            this.#say(commandComplete(this.#session.transaction.endFailed(planned.plan)));
          else this.answer(planned, false, statement === undefined ? {} : bounds.get(statement));
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
    if (plan?.explained !== undefined) return this.#say(textRowDescription(explainColumns));
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
