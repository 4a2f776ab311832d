/**
 * The messages of the extended protocol between two Syncs, read and resolved: which statement each is about, what it was bound
 * to. Resolving happens in order, so that a name means what it meant when its message came.
 */
import { RouterError } from '../errors.ts';
import { type BindMessage, readBind, readExecute, readParse, readTarget } from '../wire/client-messages.ts';
import { frontend, headerBytes } from '../wire/codes.ts';
import { ClientStatement, type StatementScope } from './statements.ts';

export interface BoundPortal {
  readonly statement: ClientStatement;
}

/**
 * `portal` undefined: no Bind made one of that name here. It is sent on: it may be a cursor of the transaction (DECLARE), and portals of
 * others don't outlive theirs. Names of statements are looked up here only: at a backend they are everybody's.
 */
export type Operation =
  | { readonly kind: 'parse'; readonly frame: Buffer; readonly statement: ClientStatement }
  | { readonly kind: 'bind'; readonly frame: Buffer; readonly bind: BindMessage; readonly statement: ClientStatement }
  | { readonly kind: 'describe-statement'; readonly frame: Buffer; readonly statement: ClientStatement }
  | { readonly kind: 'describe-portal'; readonly frame: Buffer; readonly portal: BoundPortal | undefined }
  | { readonly kind: 'execute'; readonly frame: Buffer; readonly portal: BoundPortal | undefined }
  | { readonly kind: 'close-statement'; readonly frame: Buffer }
  | { readonly kind: 'close-portal'; readonly frame: Buffer };

export interface BatchScope extends StatementScope {
  readonly statements: Map<string, ClientStatement>;
  readonly portals: Map<string, BoundPortal>;
}

/** Reads one message and applies it to the names of the session. @throws ProtocolViolation, RouterError */
export function readOperation(frame: Buffer, scope: BatchScope): Operation {
  switch (frame[0]) {
    case frontend.parse: {
      const { name, sql, body } = readParse(frame);
      if (name !== '' && scope.statements.has(name))
        throw new RouterError('DuplicateStatement', `prepared statement "${name}" already exists`);
      const statement = new ClientStatement({ name, sql, body }, scope);
      scope.statements.set(name, statement);
      return { kind: 'parse', frame, statement };
    }
    case frontend.bind: {
      const bind = readBind(frame);
      const statement = statementNamed(bind.statement, scope);
      scope.portals.set(bind.portal, { statement });
      return { kind: 'bind', frame, bind, statement };
    }
    case frontend.describe: {
      const { target, name } = readTarget(frame);
      if (target === 'statement') return { kind: 'describe-statement', frame, statement: statementNamed(name, scope) };
      return { kind: 'describe-portal', frame, portal: scope.portals.get(name) };
    }
    case frontend.close: {
      const { target, name } = readTarget(frame);
      if (target === 'statement') {
        scope.statements.delete(name);
        return { kind: 'close-statement', frame };
      }
      scope.portals.delete(name);
      return { kind: 'close-portal', frame };
    }
    default: {
      const { portal } = readExecute(frame);
      return { kind: 'execute', frame, portal: scope.portals.get(portal) };
    }
  }
}

function statementNamed(name: string, { statements }: BatchScope): ClientStatement {
  const statement = statements.get(name);
  if (statement !== undefined) return statement;
  const which = name === '' ? 'unnamed prepared statement' : `prepared statement "${name}"`;
  throw new RouterError('UnknownStatement', `${which} does not exist`);
}

/** The statements that the batch runs or makes, for classing and refusing. */
export function statementsOf(operations: readonly Operation[]): ClientStatement[] {
  const found: ClientStatement[] = [];
  let many: Set<ClientStatement> | undefined;
  for (const operation of operations) {
    const statement = statementOf(operation);
    if (statement === undefined || statement === found.at(-1)) continue;
    if (many === undefined ? found.includes(statement) : many.has(statement)) continue;
    found.push(statement);
    if (many !== undefined) many.add(statement);
    else if (found.length > fewStatements) many = new Set(found);
  }
  return found;
}

/** So many are looked through one by one. */
const fewStatements = 8;

function statementOf(operation: Operation): ClientStatement | undefined {
  switch (operation.kind) {
    case 'parse':
    case 'bind':
    case 'describe-statement':
      return operation.statement;
    case 'describe-portal':
    case 'execute':
      return operation.portal?.statement;
    default:
      return undefined;
  }
}

/**
 * Every statement that is bound, or `only` one, is made or described in the same batch. Clients that leave that out read what comes
 * by what they were told before.
 */
export function tellsAll(operations: readonly Operation[], only?: ClientStatement): boolean {
  const told = new Set<ClientStatement>();
  for (const operation of operations) {
    if (operation.kind === 'parse' || operation.kind === 'describe-statement') told.add(operation.statement);
    else if (operation.kind === 'describe-portal' && operation.portal !== undefined)
      told.add(operation.portal.statement);
  }
  if (only !== undefined) return told.has(only);
  return operations.every((operation) => operation.kind !== 'bind' || told.has(operation.statement));
}

/** Nothing but one whole run of one statement, by the unnamed portal: it may be made, described and bound before. */
export function isOneRun(operations: readonly Operation[], statements: readonly ClientStatement[]): boolean {
  if (statements.length !== 1) return false;
  for (let index = 0; index < operations.length; index++) {
    const operation = operations[index] as Operation;
    switch (operation.kind) {
      case 'bind':
        if (operation.bind.portal !== '') return false;
        break;
      case 'execute':
        return index === operations.length - 1 && operation.portal !== undefined && isWhole(operation.frame);
      case 'close-statement':
      case 'close-portal':
        return false;
      default:
    }
  }
  return false;
}

/** Of the unnamed portal, and of all its rows ("Message Formats", Execute). */
const isWhole = (execute: Buffer): boolean => execute[headerBytes] === 0 && execute.readInt32BE(headerBytes + 1) === 0;
