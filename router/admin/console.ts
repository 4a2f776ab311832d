/**
 * What the admin database does: shows what there is, pauses, resumes, reconnects, reloads. For all workers of the router.
 * Leaves to others: the protocol (admin-session.ts), how tables are made (tables.ts), how workers hear of it (bus.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { RouterError } from '../errors.ts';
import type { AdminRight } from '../map/map.ts';
import type { AdminBus } from './bus.ts';
import { type Action, type Command, type Show } from './command.ts';
import type { Table } from './table.ts';
import * as tables from './tables.ts';
import type { WorkerView } from './view.ts';

export interface ConsoleOptions {
  readonly bus: AdminBus;
  readonly workers: number;
  /** All of a SHOW but the views. @throws RouterError before the first map. */
  readonly input: () => Omit<tables.ShowInput, 'views'>;
  readonly log: (action: Action, role: string) => void;
}

/** How often it is looked whether the last connection has come back. */
const lookMs = 20;

export type Outcome =
  | { readonly kind: 'table'; readonly table: Table; readonly tag: string }
  | { readonly kind: 'notice'; readonly text: string; readonly tag: string }
  | { readonly kind: 'done'; readonly tag: string };

export class Console {
  readonly #options: ConsoleOptions;

  constructor(options: ConsoleOptions) {
    this.#options = options;
  }

  /** @throws RouterError. `signal`: the client wants it no more. */
  async run(command: Command, role: string, right: AdminRight, signal: AbortSignal): Promise<Outcome> {
    switch (command.kind) {
      case 'show':
        if (command.show === 'help') return { kind: 'notice', text: `Console usage${tables.helpText}`, tag: 'SHOW' };
        return { kind: 'table', table: await this.#show(command.show), tag: 'SHOW' };
      case 'action': {
        if (right !== 'full')
          throw new RouterError('Forbidden', 'admin access needed', {
            hint: 'The role has admin: stats in the Keyspace; full may do this as well.',
          });
        const { database } = this.#options.input().map.keyspace;
        if (command.database !== undefined && command.database !== database)
          throw new RouterError('UnknownDatabase', `no such database: ${command.database}`);
        this.#options.log(command.action, role);
        await this.#act(command.action, signal);
        return { kind: 'done', tag: command.action.toUpperCase() };
      }
      case 'set':
        return { kind: 'done', tag: 'SET' };
      case 'unknown':
        throw new RouterError('Syntax', `invalid command '${command.text.slice(0, 100)}', use SHOW HELP;`);
      case 'empty':
        return { kind: 'done', tag: '' };
    }
  }

  async #show(show: Exclude<Show, 'help'>): Promise<Table> {
    const withSockets = show === 'clients' || show === 'servers';
    const views = await this.#options.bus.ask({ kind: 'view', withSockets });
    const input = { ...this.#options.input(), views };
    switch (show) {
      case 'pools':
        return tables.poolsTable(input);
      case 'clients':
        return tables.clientsTable(input);
      case 'servers':
        return tables.serversTable(input);
      case 'stats':
        return tables.statsTable(input, 'all');
      case 'stats_totals':
        return tables.statsTable(input, 'totals');
      case 'stats_averages':
        return tables.statsTable(input, 'averages');
      case 'totals':
        return tables.totalsTable(input);
      case 'routes':
        return tables.routesTable(input);
      case 'tenants':
        return tables.tenantsTable(input);
      case 'members':
        return tables.membersTable(input);
      case 'databases':
        return tables.databasesTable(input);
      case 'users':
        return tables.usersTable(input);
      case 'lists':
        return tables.listsTable(input);
      case 'config':
        return tables.configTable(input);
      case 'state':
        return tables.stateTable(input);
      case 'version':
        return tables.versionTable(input);
    }
  }

  async #act(action: Action, signal: AbortSignal): Promise<void> {
    let views = await this.#options.bus.ask({ kind: 'act', action });
    this.#expectAll(views);
    if (action !== 'pause') return;
    while (views.length < this.#options.workers || views.some(({ servers }) => servers > 0)) {
      if (signal.aborted)
        throw new RouterError('Cancelled', 'canceling PAUSE due to user request', {
          hint: 'Nothing new is lent, as before: RESUME ends that.',
        });
      // Somebody else has resumed meanwhile: it won't get any emptier.
      if (!views.some(({ isPaused }) => isPaused)) throw new RouterError('Cancelled', 'resumed before it was paused');
      await sleep(lookMs);
      views = await this.#options.bus.ask({ kind: 'view', withSockets: false });
    }
  }

  #expectAll(views: readonly WorkerView[]): void {
    if (views.length === this.#options.workers) return;
    throw new RouterError('NotReady', `only ${views.length} of ${this.#options.workers} workers have answered`);
  }
}
