/**
 * Turns the operations of a batch into bytes for one backend, and notes what it will answer: client names of statements become
 * shared ones, statements that this backend lacks are made on the way, and those it has aren't made again.
 */
import type { RouterError } from '../errors.ts';
import type { BoundQuery } from '../exec/parameterised.ts';
import type { StatementPlan } from '../plan/types.ts';
import type { Backend } from '../pool/backend.ts';
import {
  expectBind,
  expectClose,
  expectDescribe,
  expectExecute,
  expectHiddenBind,
  expectHiddenClose,
  expectRefusal,
  expectSync,
} from '../pool/expectation.ts';
import {
  closeStatement,
  describeStatement,
  flushMessage,
  parseMessage,
  renameBind,
  runPrepared,
} from '../wire/client-messages.ts';
import { closeComplete, parameterTypesText, parseComplete, shapeOf } from '../wire/server-messages.ts';
import { type Operation, tellsAll } from './batch.ts';
import type { ClientStatement, SharedStatement } from './statements.ts';

/** `ends`: a Sync follows. `changed`: what is sent gives something else than its client was told, and none of it may be passed on. */
export function operationBytes(
  operations: readonly Operation[],
  backend: Backend,
  ends: boolean,
  changed: () => void,
): Buffer[] {
  const bytes: Buffer[] = [];
  const relied = (statement: ClientStatement): (() => void) | undefined =>
    tellsAll(operations, statement) ? undefined : changed;
  for (const operation of operations) {
    switch (operation.kind) {
      case 'parse':
        makeVisibly(operation.frame, operation.statement, backend, bytes);
        operation.statement.tell();
        break;
      case 'bind': {
        const { statement } = operation;
        makeHidden(statement, backend, bytes, relied(statement), changed);
        bytes.push(
          statement.shared === undefined
            ? operation.frame
            : renameBind(operation.frame, operation.bind, statement.shared.name),
        );
        backend.expect(expectBind);
        break;
      }
      case 'describe-statement': {
        const { statement } = operation;
        makeHidden(statement, backend, bytes, relied(statement), undefined);
        bytes.push(statement.shared === undefined ? operation.frame : describeStatement(statement.shared.name));
        backend.expect(expectDescribe);
        statement.tell();
        statement.takeTypes();
        break;
      }
      case 'describe-portal':
        bytes.push(operation.frame);
        backend.expect(expectDescribe);
        operation.portal?.statement.tell();
        break;
      case 'execute':
        bytes.push(operation.frame);
        backend.expect(expectExecute);
        if (changesSettings(operation.portal?.statement.planned?.plan)) backend.hasSettingsUnderWay = true;
        break;
      case 'close-statement':
        backend.expect({ kind: 'local', bytes: closeComplete, statement: undefined });
        break;
      case 'close-portal':
        bytes.push(operation.frame);
        backend.expect(expectClose);
        break;
    }
  }
  if (ends) backend.hasSettingsUnderWay = false;
  return bytes;
}

/** A simple query said with parameters, with its Sync; answered as it would be itself. */
export function boundBytes({ name, template, values }: BoundQuery, backend: Backend): Buffer[] {
  const bytes: Buffer[] = [];
  // As a simple query would.
  backend.unnamed = undefined;
  if (!backend.prepared.use(name)) {
    makeRoom(name, backend, bytes);
    bytes.push(parseMessage(name, template.body));
    backend.expect({ kind: 'parse', hidden: true, name, statement: undefined });
  }
  bytes.push(runPrepared(name, values));
  for (const due of [expectHiddenBind, expectDescribe, expectExecute, expectSync]) backend.expect(due);
  return bytes;
}

/** Also the end of a transaction: what was set in it ends with it. */
function changesSettings(plan: StatementPlan | undefined): boolean {
  if (plan?.kind === 'set' || plan?.kind === 'reset') return true;
  const verb = plan?.transaction?.verb;
  return verb === 'commit' || verb === 'rollback' || verb === 'rollback-to';
}

function makeVisibly(frame: Buffer, statement: ClientStatement, backend: Backend, bytes: Buffer[]): void {
  const { shared } = statement;
  if (shared === undefined) {
    bytes.push(statement.isRewritten ? parseMessage('', statement.body) : frame);
    backend.unnamed = statement;
    backend.expect({ kind: 'parse', hidden: false, name: '', statement });
    return;
  }
  if (backend.prepared.use(shared.name)) {
    backend.expect({ kind: 'local', bytes: parseComplete, statement });
    statement.takeTypes();
    return;
  }
  makeRoom(shared.name, backend, bytes);
  bytes.push(parseMessage(shared.name, shared.body));
  backend.expect({ kind: 'parse', hidden: false, name: shared.name, statement });
  describeHidden(statement, shared, backend, bytes, true);
}

/**
 * Makes a statement that the client made earlier, on another backend or before this one forgot it. `changed`: called where it gives
 * something else than the client was told; `retyped`: where it takes something else.
 */
function makeHidden(
  statement: ClientStatement,
  backend: Backend,
  bytes: Buffer[],
  changed: (() => void) | undefined,
  retyped: (() => void) | undefined,
): void {
  const { shared } = statement;
  if (shared === undefined) {
    if (backend.unnamed === statement) return;
    bytes.push(parseMessage('', statement.body));
    backend.unnamed = statement;
    backend.expect({ kind: 'parse', hidden: true, name: '', statement: undefined });
    return;
  }
  if (backend.prepared.use(shared.name)) {
    if (statement.isTypedOtherwise) retyped?.();
    return;
  }
  makeRoom(shared.name, backend, bytes);
  bytes.push(parseMessage(shared.name, shared.body));
  backend.expect({ kind: 'parse', hidden: true, name: shared.name, statement: undefined });
  describeHidden(statement, shared, backend, bytes, false, changed, retyped);
}

/**
 * Postgres refuses a statement that gives something else than when it was made, and reads values as what they were then; made anew it
 * would do otherwise without a word.
 */
function describeHidden(
  statement: ClientStatement,
  shared: SharedStatement,
  backend: Backend,
  bytes: Buffer[],
  isMadeNow: boolean,
  changed?: () => void,
  retyped?: () => void,
): void {
  bytes.push(describeStatement(shared.name));
  backend.expect({
    kind: 'describe',
    seen: (parameters, columns) => {
      const shape = columns === undefined ? '' : shapeOf(columns);
      statement.learn(shared, parameterTypesText(parameters), shape, changed === undefined, isMadeNow);
      if (statement.isToldOtherwise) changed?.();
      if (statement.isTypedOtherwise) retyped?.();
    },
  });
}

function makeRoom(name: string, backend: Backend, bytes: Buffer[]): void {
  // Its name says under which settings it is made, and those aren't it: nobody else may find it here.
  if (backend.hasSettingsUnderWay) backend.isSuspect = true;
  const evicted = backend.prepared.add(name);
  if (evicted === undefined) return;
  bytes.push(closeStatement(evicted));
  backend.expect(expectHiddenClose);
}

/**
 * Refuses what would follow in an open pipeline, in its turn: what was sent is answered first. A message that fails at the backend makes
 * Postgres undo it all; should an earlier one fail, that error is the one to be heard.
 */
export function failInTurn(backend: Backend, error: RouterError): void {
  backend.expect(expectRefusal);
  backend.expect({ kind: 'local', bytes: error.response(), statement: undefined });
  backend.write(Buffer.concat([describeStatement('meridian refused'), flushMessage]));
}
