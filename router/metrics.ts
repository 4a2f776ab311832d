/**
 * What the router counts, in shared memory, so that workers count without locks and the parent renders them all.
 * Text as in the Prometheus exposition format.
 */
import { described } from './admin/gauges.ts';
import { memberColumns, poolColumns, totalColumns } from './admin/table.ts';

const counters = {
  clients_total: 'Client connections accepted',
  logins_total: 'Clients that logged in',
  logins_refused_total: 'Clients refused while logging in',
  statements_total: 'Statements and batches sent to members',
  shared_total: 'Statements sent by connections that clients share',
  parameterised_total: 'Of these, simple queries that were sent as prepared statements',
  rescued_total: 'Of these, statements that were run once more elsewhere, since one ahead of them took long',
  transactions_total: 'Transactions that ended',
  local_statements_total: 'Statements answered by the router itself',
  refusals_total: 'Statements refused by the router',
  reads_on_followers_total: 'Statements and batches whose answer came from a follower',
  kept_total: 'Times that a session began to keep its connection to a member',
  backend_losses_total: 'Connections to members lost while in use',
  limited_total: 'Connections and statements refused because their tenant, or role, has all that it may',
  client_parses_total: 'Prepared statements that clients made',
  binds_total: 'Prepared statements that clients had run',
  held_total: 'Transactions that waited for their primary',
  held_refused_total: 'Transactions refused because too much waited, or for too long',
  epochs_learnt_total: 'New epochs learnt from members before the API server said them',
  cuts_total: 'Connections to members cut because their epoch was over',
  horizon_waits_total: 'Answers that came after the horizon and waited for proof of the lease',
  horizon_misses_total: 'Answers that came after the horizon and were not delivered',
  cancels_total: 'Cancel requests received',
  cancels_forwarded_total: 'Cancel requests forwarded to a member',
  cancels_relayed_total: 'Cancel requests passed on to the router that gave the key',
  cancels_dropped_total: 'Cancel requests for other routers dropped because too many were under way',
  position_checks_total: 'Followers asked whether they have seen enough for a read',
  followers_behind_total: 'Reads that a follower could not serve as promised, and that went to the primary',
  client_bytes_total: 'Bytes received from clients',
  server_bytes_total: 'Bytes of answers passed on to clients',
} as const;

const gauges = { clients: 'Clients connected now' } as const;

type Name = keyof typeof counters | keyof typeof gauges;
const names = [...Object.keys(counters), ...Object.keys(gauges)] as Name[];
const slot = new Map(names.map((name, index) => [name, index]));

export const slotOf = (name: Name): number => slot.get(name) as number;

export class Metrics {
  readonly memory: SharedArrayBuffer;
  readonly #values: Float64Array;

  constructor(memory = new SharedArrayBuffer(names.length * Float64Array.BYTES_PER_ELEMENT)) {
    this.memory = memory;
    this.#values = new Float64Array(memory);
  }

  add(name: Name, amount = 1): void {
    this.addAt(slotOf(name), amount);
  }

  /** Where something is counted for each statement: `slotOf` its name. */
  addAt(index: number, amount: number): void {
    this.#values[index] = (this.#values[index] as number) + amount;
  }

  get(name: Name): number {
    return this.#values[slot.get(name) as number] as number;
  }
}

/** In the words of SHOW. */
const shown = new Map([
  ...described('pools', poolColumns),
  ...described('stats', totalColumns),
  ...described('members', memberColumns),
]);

/** Sums of several workers, and what else is known by name, with labels or without. */
export function renderMetrics(workers: readonly Metrics[], more: Readonly<Record<string, number>>): string {
  const lines: string[] = [];
  const add = (name: string, type: string, description: string, value: number): void => {
    lines.push(`# HELP meridian_router_${name} ${description}.`, `# TYPE meridian_router_${name} ${type}`);
    lines.push(`meridian_router_${name} ${value}`);
  };
  const sum = (name: Name): number => workers.reduce((total, worker) => total + worker.get(name), 0);
  for (const [name, description] of Object.entries(counters)) add(name, 'counter', description, sum(name as Name));
  for (const [name, description] of Object.entries(gauges)) add(name, 'gauge', description, sum(name as Name));
  const byName = new Map<string, string[]>();
  for (const [key, value] of Object.entries(more)) {
    const [name = key] = key.split('{', 1);
    const values = byName.get(name) ?? [];
    byName.set(name, values);
    values.push(`meridian_router_${key} ${value}`);
  }
  // All of one name together, as the format wants it.
  for (const [name, values] of byName) {
    const { type, help } = shown.get(name) ?? { type: 'gauge', help: name.replaceAll('_', ' ') };
    lines.push(`# HELP meridian_router_${name} ${help}.`, `# TYPE meridian_router_${name} ${type}`, ...values);
  }
  return `${lines.join('\n')}\n`;
}
