/**
 * Channels of LISTEN and NOTIFY. In Postgres they are the whole database's; here each tenant has its own, so a channel is called
 * otherwise at the members: by a name that nobody can make up, which the member says (`meridian.channel`). Clients see their own names.
 * Leaves to others: keeping the backend that listens (keeping.ts).
 */
import { RouterError } from '../errors.ts';
import type { Route } from '../exec/route.ts';
import type { StatementPlan } from '../plan/types.ts';
import { expectQuery } from '../pool/expectation.ts';
import { quoteLiteral } from '../pool/hygiene.ts';
import { queryMessage } from '../wire/client-messages.ts';
import type { Loan } from './loan.ts';

/** Channels that a session has named: more are refused. */
const maxChannels = 1_000;

/** The statement as the member has to hear it; undefined where it stays as it is. */
type Rewritten = (plan: StatementPlan) => string | undefined;

export class Channels {
  readonly #loan: () => Loan;
  /** Shard, tenant and client's name -> member's name. */
  readonly #atMember = new Map<string, string>();
  /** Member's name -> client's name. */
  readonly #atClient = new Map<string, string>();

  constructor(loan: () => Loan) {
    this.#loan = loan;
  }

  /** What the client calls it; undefined for one that it never named. */
  clientName(memberName: string): string | undefined {
    return this.#atClient.get(memberName);
  }

  /** Calls one of the two, now or when a member has said how it calls them. @throws RouterError */
  resolve(
    plans: readonly StatementPlan[],
    route: Route,
    resolved: (rewritten: Rewritten) => void,
    failed: (error: RouterError) => void,
  ): void {
    const keyOf = (channel: string): string => `${route.shard ?? ''}\0${route.tenant ?? ''}\0${channel}`;
    const names = new Set(plans.flatMap(({ channel }) => (channel === undefined ? [] : [channel])));
    const unknown = [...names].filter((name) => !this.#atMember.has(keyOf(name)));
    const say = (): void => resolved((plan) => rewritten(plan, (channel) => this.#atMember.get(keyOf(channel)) ?? ''));
    if (unknown.length === 0) return say();
    if (this.#atMember.size + unknown.length > maxChannels)
      throw new RouterError('TooMuchKept', `this session has named more than ${maxChannels} channels`, { hint: '' });
    const loan = this.#loan();
    if (loan.isOpen) throw new RouterError('MixedPipeline', 'LISTEN or NOTIFY in a pipeline without a Sync before it');
    const sql = `SELECT ${unknown.map((name) => `meridian.channel(${quoteLiteral(name)})`).join(', ')}`;
    loan.run({
      route,
      plans: [askPlan],
      bytes: (backend) => {
        backend.expect(expectQuery);
        return [queryMessage(sql)];
      },
      size: sql.length,
      ends: true,
      isExtended: false,
      trailing: [],
      silent: {
        answered: ({ rows, error }) => {
          if (error !== undefined)
            return failed(
              new RouterError('Internal', error.get('M') ?? '', { sqlstate: error.get('C'), hint: error.get('H') }),
            );
          for (const [index, name] of unknown.entries()) {
            const memberName = rows[0]?.[index] ?? '';
            this.#atMember.set(keyOf(name), memberName);
            this.#atClient.set(memberName, name);
          }
          try {
            say();
          } catch (error) {
            if (!(error instanceof RouterError)) throw error;
            failed(error);
          }
        },
        failed,
      },
    });
  }
}

const quoteIdentifier = (name: string): string => `"${name.replaceAll('"', '""')}"`;

function rewritten(plan: StatementPlan, nameOf: (channel: string) => string): string | undefined {
  if (plan.channel === undefined) return undefined;
  const name = quoteIdentifier(nameOf(plan.channel));
  if (plan.kind === 'listen') return `LISTEN ${name}`;
  if (plan.kind === 'unlisten') return `UNLISTEN ${name}`;
  return plan.payload === undefined || plan.payload === ''
    ? `NOTIFY ${name}`
    : `NOTIFY ${name}, ${quoteLiteral(plan.payload)}`;
}

const askPlan: StatementPlan = {
  text: '',
  start: 0,
  end: 0,
  kind: 'select',
  access: 'read',
  touches: 'nothing',
  tenant: { from: 'none' },
  tables: [],
  calls: [],
  mayShare: false,
};
