/**
 * The taint proof: many clients on few backends, each with marks of its own in everything that it asks for, while statements fail, time
 * out, are cancelled and pipelined, COPYs break, backends are killed and clients hang up. One foreign byte, or a stall, and it fails.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { PlanCost, PlanCosts } from '#router/pool/plan-cost.ts';
import type { RouterKeyspace, TestRouter } from '../../integration/router-keyspace.ts';
import { act, type Company } from './actor.ts';
import { situation, stalled, Whereabouts } from './stall.ts';
import { Sharing, tenants } from './witness.ts';

export interface TaintOptions {
  readonly clients: number;
  /** It goes on until so many messages have been looked through ... */
  readonly responses: number;
  /** ... or it has taken so long. */
  readonly maxMs: number;
  readonly seed: number;
  /** Names of actions; all without it. */
  readonly only?: readonly string[];
  /** Called now and then. */
  readonly progress?: (counts: TaintCounts) => void;
  /** At once: the others have yet to end what they are at. */
  readonly failed?: (error: unknown) => void;
}

export interface TaintCounts {
  responses: number;
  cancels: number;
  hangUps: number;
  kills: number;
  /** Connections that the router, or the death of a kept backend, ended. */
  ended: number;
  /** Statements that went by a connection which several clients shared. */
  shared: number;
  /** Connections to members that rows were seen to come by, those of them that served several tenants, and how often that changed. */
  connections: number;
  ofSeveralTenants: number;
  tenantChanges: number;
  mostClientsOfOne: number;
}

/**
 * How many share a connection depends on how quick the machine is just now. Here everything that ever may does, every other while, so that
 * sharing, learning, and the change between them take part on any machine.
 */
const sharingMs = 4_000;

class Generous extends PlanCost {
  override mayShare(nowMs: number): boolean {
    return Math.floor(nowMs / sharingMs) % 2 === 0 || super.mayShare(nowMs);
  }
}

/** For routers of this process that are made from now on, or are there. */
function shareMore(): void {
  const costs = new WeakMap<object, PlanCost>();
  PlanCosts.prototype.of = (plan) => {
    const cost = costs.get(plan) ?? new Generous();
    costs.set(plan, cost);
    return cost;
  };
}

/** Of the event loop, a second each. */
const patienceTurns = 90;
/** Once something is wrong, the others have so long to end what they are at. */
const endMs = 10_000;

/** Rows for every tenant, of which marks are made. */
export async function prepareTaint(router: TestRouter): Promise<void> {
  await router.with('any_app', async (client) => {
    for (const tenant of tenants)
      await client.query(`insert into accounts (tenant_id, id, owner) select $1, n, $1 from generate_series(1, 50) n`, [
        tenant,
      ]);
  });
}

/** @throws AssertionError at the first foreign byte. */
export async function runTaint(
  keyspace: RouterKeyspace,
  router: TestRouter,
  options: TaintOptions,
): Promise<TaintCounts> {
  const { seed, only = [] } = options;
  const none = { responses: 0, cancels: 0, hangUps: 0, kills: 0, ended: 0 };
  const counts: TaintCounts = {
    ...none,
    shared: 0,
    connections: 0,
    ofSeveralTenants: 0,
    tenantChanges: 0,
    mostClientsOfOne: 0,
  };
  const sharing = new Sharing();
  const whereabouts = new Whereabouts();
  const deadline = performance.now() + options.maxMs;
  const isOver = (): boolean => counts.responses >= options.responses || performance.now() > deadline;
  const failures: unknown[] = [];
  const goOn = (): boolean => !isOver() && failures.length === 0;
  const company: Company = { keyspace, router, seed, counts, sharing, whereabouts, only, goOn };
  const fail = (error: unknown): void => {
    failures.push(error);
    // Of those that follow from it, or from the end, a few say enough.
    if (failures.length <= 3 || error instanceof Situation) options.failed?.(error);
  };
  const look = (): TaintCounts =>
    Object.assign(counts, {
      shared: router.worker.metrics.get('shared_total'),
      connections: sharing.connections,
      ofSeveralTenants: sharing.ofSeveralTenants,
      tenantChanges: sharing.changes,
      mostClientsOfOne: sharing.mostClients,
    });
  const clients = Array.from({ length: options.clients }, (_one, index) => act(index, company).catch(fail));
  const all = Promise.all([...clients, killNowAndThen(keyspace, counts, goOn)]);
  const reporter = setInterval(() => options.progress?.(look()), 10_000);
  shareMore();
  const progress = (): number => counts.responses + counts.hangUps + counts.ended;
  const stall = stalled({ whereabouts, router, progress, patienceTurns });
  try {
    await Promise.race([all, stall.promise, failureOf(failures, whereabouts, router)]);
  } catch (error) {
    fail(error);
  } finally {
    stall.stop();
    clearInterval(reporter);
  }
  if (failures.length > 0) throw failures[0];
  return look();
}

/** Who was at what when something went wrong. */
class Situation extends Error {
  override readonly name = 'Situation';
}

/** Rejects a while after the first failure, and says who is still at what: whoever waits for ever must not keep it from being told. */
async function failureOf(failures: readonly unknown[], whereabouts: Whereabouts, router: TestRouter): Promise<never> {
  while (failures.length === 0) await sleep(200, undefined, { ref: false });
  const then = await situation(whereabouts, router);
  await sleep(endMs, undefined, { ref: false });
  throw new Situation(`as it was then:\n${then.join('\n')}`);
}

/** Whatever was done to it: no client, no connection to a member in use or kept. @throws AssertionError */
export async function expectNothingLeft({ worker }: TestRouter): Promise<void> {
  const deadline = performance.now() + 60_000;
  const left = (): string =>
    JSON.stringify({
      clients: worker.metrics.get('clients'),
      busy: worker.gauges['backends_busy'],
      kept: worker.gauges['backends_kept'],
      waiting: worker.gauges['statements_waiting'],
    });
  const nothing = '{"clients":0,"busy":0,"kept":0,"waiting":0}';
  while (left() !== nothing && performance.now() < deadline) await sleep(50);
  assert.equal(left(), nothing);
}

async function killNowAndThen(keyspace: RouterKeyspace, counts: TaintCounts, goOn: () => boolean): Promise<void> {
  while (goOn()) {
    await sleep(400);
    for (const member of ['one-eu-0', 'two-us-0', 'one-ap-0'])
      await keyspace
        .asOperator(member, (operator) =>
          operator.query(
            `select pg_terminate_backend(pid) from pg_stat_activity where usename like '%\\_app' order by random() limit 1`,
          ),
        )
        .then(
          () => (counts.kills += 1),
          // Busy as the machine is, some can't be reached in time.
          () => undefined,
        );
  }
}
