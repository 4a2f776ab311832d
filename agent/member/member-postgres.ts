/**
 * The member's Postgres as the steps see it: started closed, waited for, given the configuration of the orders, asked for
 * its positions, stopped. It keeps what is in force (access, configuration, synchronous list, restart nonce), since that
 * is known here alone: an agent that restarts has no Postgres yet.
 * Which of these happens when is decided in `plan.ts`; it knows nothing of authority.
 * Invariants: what lies on disk before every start is the closed access file; a changed synchronous list is in force only
 * past its barrier.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AgentConfiguration, environmentOfPostgres } from '#agent/configuration.ts';
import type { Logger } from '#agent/log.ts';
import { endClients } from '#agent/postgres/client-processes.ts';
import { DataDirectory } from '#agent/postgres/data-directory.ts';
import { neverSeen, type Observation, Observations } from '#agent/postgres/observations.ts';
import { observePostgres, refusedSettings } from '#agent/postgres/observe.ts';
import { type PositionSeen, Positions } from '#agent/postgres/positions.ts';
import { assertDoorIsClosed } from '#agent/postgres/probe.ts';
import { runProgram } from '#agent/postgres/programs.ts';
import { reloadAndSee } from '#agent/postgres/reload.ts';
import { killLeftovers, PostgresServer, type ServerExit } from '#agent/postgres/server.ts';
import { LocalSession } from '#agent/postgres/session.ts';
import { applySlotAction, dropAnchor, isUnwanted, keepAnchor, planSlots, readSlots } from '#agent/postgres/slots.ts';
import { validateParameters } from '#agent/postgres/validate.ts';
import { versionProblem } from '#agent/postgres/version.ts';
import { settleTimelines } from '#agent/rejoin/timelines.ts';
import { type Credentials, writePostgresTls } from '#agent/tls/credentials.ts';
import { membershipHeldMs } from '#core/authority/timing.ts';
import { parseLsn } from '#core/lsn.ts';
import type { Orders } from '#core/protocol/orders.ts';
import { configurationPlaces, type RenderedConfiguration, renderConfiguration } from './configuration.ts';
import { Door } from './door.ts';
import type { ServerView } from './plan.ts';
import { type QuietPostgres, quieten } from './quieting.ts';
import { compareLists, type ListChange, type SynchronousList } from './synchronous-list.ts';

export interface MemberPostgresOptions {
  readonly configuration: AgentConfiguration;
  readonly credentials: () => Credentials;
  /** Ends every stream that other members have from this one (not base copies). */
  readonly endStreams: () => void;
  readonly onExit: (exit: ServerExit) => void;
  /** Its door is being shut, on its way down. */
  readonly onShut: () => void;
  readonly log: Logger;
}

const BARRIER_MS = 10_000;
const CHECKPOINT_MS = 300_000;
const PROMOTE_SECONDS = 30;
/** A backend that waited for its acknowledgers and was released by something else (Postgres: syncrep.c). */
const CANCELLED_WAIT = { code: '01000', routine: 'SyncRepWaitForLSN' };

export class MemberPostgres {
  readonly data: DataDirectory;
  readonly env: Readonly<Record<string, string>>;
  readonly #options: MemberPostgresOptions;
  readonly #server: PostgresServer;
  readonly #session: LocalSession;
  readonly #log: Logger;
  #view: ServerView = { state: 'stopped' };
  #startedAt = 0;
  #problems: readonly string[] = [];
  #validated: {
    readonly key: string;
    readonly accepted: Readonly<Record<string, string>>;
    readonly problems: readonly string[];
  } = { key: '', accepted: {}, problems: [] };
  /** Of the primary, read from the control file before a standby's start. */
  #limits: Readonly<Record<string, number>> = {};
  /** Undefined while it isn't known: a change of it has begun, and not ended. */
  #listInForce: SynchronousList | undefined;
  readonly #door: Door;
  #quieting: Promise<QuietPostgres> | undefined;
  readonly #observations: Observations;
  readonly #positions: Positions;
  readonly #bornAt = performance.now();

  constructor(options: MemberPostgresOptions) {
    const { paths, ports, runConfiguration } = options.configuration;
    this.#options = options;
    this.#log = options.log;
    this.env = environmentOfPostgres(process.env);
    this.data = new DataDirectory(paths.pgdata, this.env);
    this.#door = new Door(runConfiguration);
    this.#session = new LocalSession(paths.postgresSockets, ports.postgres);
    this.#observations = new Observations(() =>
      observePostgres(this.#session).catch((error: unknown) => {
        this.#log.debug({ err: error }, 'Postgres could not be asked');
        return undefined;
      }),
    );
    this.#positions = new Positions(paths.postgresSockets, ports.postgres);
    this.#server = new PostgresServer({
      dataDirectory: paths.pgdata,
      configFile: configurationPlaces(runConfiguration).parameters,
      env: this.env,
      onExit: (exit) => {
        this.#view = { state: 'stopped' };
        this.#observations.forget();
        void this.#session.close();
        void this.#positions.close();
        options.onExit(exit);
      },
    });
  }

  get view(): ServerView {
    return this.#view;
  }

  /** Whatever the view says: from before the first attempt to open it until nobody is left of those inside. */
  get mayHaveClients(): boolean {
    return this.#view.state === 'running' && this.#door.mayHaveClients;
  }

  /** What of the orders' configuration isn't in force, and why. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Of the postmaster. */
  get pid(): number | undefined {
    return this.#server.pid;
  }

  /** Waits for nobody's acknowledgement; its statements have a time limit. */
  get session(): LocalSession {
    return this.#session;
  }

  /** Another session, for commits that wait; `onCancelledWait` is told when one didn't wait to its end. */
  connect(database: string, onCancelledWait: () => void): LocalSession {
    const { paths, ports } = this.#options.configuration;
    return new LocalSession(paths.postgresSockets, ports.postgres, {
      database,
      queryTimeoutMs: 0,
      onNotice: ({ code, routine }) => {
        if (code === CANCELLED_WAIT.code && routine === CANCELLED_WAIT.routine) onCancelledWait();
      },
    });
  }

  /** How far it is, as last seen; of a Postgres that is down nothing. */
  async position(orders: Orders | undefined): Promise<PositionSeen | undefined> {
    if (orders === undefined || this.#view.state === 'stopped' || !this.#view.isReady) return undefined;
    return this.#positions.latest(orders.shard.database);
  }

  /** How long it has been running; 0 when it isn't. */
  get runsForMs(): number {
    return this.#view.state === 'running' ? performance.now() - this.#startedAt : 0;
  }

  /** Digest of the configuration that these orders ask for. Needs a data directory. */
  async wantedConfiguration(orders: Orders): Promise<string> {
    return (await this.#render(orders)).digest;
  }

  /**
   * Starts it closed. `isStillWanted` is asked last, when everything is prepared.
   * @returns false when it wasn't wanted any more.
   */
  async start(orders: Orders, as: 'primary' | 'standby', isStillWanted: () => boolean): Promise<boolean> {
    const { configuration, credentials } = this.#options;
    const unfit = versionProblem((await runProgram('postgres', ['--version'], { env: this.env })).stdout);
    if (unfit !== undefined) throw new Error(unfit);
    this.#limits = as === 'standby' ? await this.data.primaryLimits() : {};
    const rendered = await this.#render(orders);
    await this.#door.alone(() => writePostgresTls(configuration.runTls, credentials()));
    await this.#door.prepare(rendered);
    await this.#server.clearLeftovers();
    await this.#clearSockets();
    await settleTimelines(this.data);
    await this.data.prepareForStart();
    if (!isStillWanted()) return false;
    this.#problems = rendered.problems;
    this.#listInForce = orders.synchronous;
    this.#door.begin();
    this.#quieting = undefined;
    this.#startedAt = performance.now();
    this.#view = {
      state: 'running',
      as,
      isReady: false,
      isOpen: false,
      configuration: rendered.digest,
      restartNonce: orders.restartNonce,
      timeline: 0,
    };
    this.#server.start();
    return true;
  }

  /** Undefined once it takes connections; else what it says. */
  async whyNotReady(): Promise<string | undefined> {
    let timeline: number;
    try {
      timeline = await this.#writtenTimeline();
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
    if (this.#view.state === 'running') this.#view = { ...this.#view, isReady: true, timeline };
    return undefined;
  }

  /**
   * Makes a running standby primary on exactly `orders.timeline`. Its door is shut, with nobody left inside, and list, slots
   * and parameters are those of the orders before it can take a write (docs/design-traps.md, A5, A27, B11).
   * @param atLast What comes right before: the last look at whether it still may.
   * @throws when it didn't come to that: nobody knows then what Postgres is, and it has to be stopped.
   */
  async promote(orders: Orders, atLast: () => Promise<void>): Promise<void> {
    await this.reconfigure(orders, 'closed');
    await this.#emptyBehindShutDoor();
    await this.maintainSlots(orders);
    await atLast();
    const [row] = await this.#session.query<{ done: boolean }>(
      'select pg_catalog.pg_promote(true, $1) as done',
      [PROMOTE_SECONDS],
      (PROMOTE_SECONDS + 1) * 1_000,
    );
    if (row?.done !== true) throw new Error(`Postgres was not promoted within ${PROMOTE_SECONDS} s`);
    const timeline = await this.#writtenTimeline();
    if (orders.timeline > 0 && timeline !== orders.timeline) {
      throw new Error(`it took timeline ${timeline} at its promotion, not ${orders.timeline}`);
    }
    this.#observations.forget();
    if (this.#view.state === 'running') this.#view = { ...this.#view, as: 'primary', timeline };
  }

  /**
   * Resolves when the configuration of these orders is in force, the list past its barrier. Until then, and if it fails,
   * nothing is believed to be in force: the files, Postgres and some walsender may each have another list.
   */
  async reconfigure(orders: Orders, access: 'closed' | 'open'): Promise<void> {
    const rendered = await this.#render(orders);
    const listBefore = this.#listInForce;
    this.#listInForce = undefined;
    if (this.#view.state === 'running') this.#view = { ...this.#view, configuration: '' };
    await this.#door.write(rendered, access);
    await reloadAndSee(this.#session, () => {
      this.#door.assertStaysUp();
      this.#server.reload();
    });
    if (this.#view.state === 'running') await this.#passBarrier(listBefore, orders.synchronous, this.#view.as);
    this.#listInForce = orders.synchronous;
    this.#problems = [...rendered.problems, ...(await refusedSettings(this.#session))];
    for (const problem of this.#problems) this.#log.warn({ problem }, 'configuration');
    this.#door.assertStaysUp();
    const view = this.#view;
    if (view.state !== 'running') return;
    if (!view.isOpen && access === 'open') this.#log.info({ as: view.as }, 'open');
    this.#view = { ...view, configuration: rendered.digest, isOpen: access === 'open' };
  }

  /** What a standby has replayed. */
  async replayed(): Promise<string | undefined> {
    const [row] = await this.#session.query<{ lsn: string | null }>(
      'select pg_catalog.pg_last_wal_replay_lsn()::text as lsn',
    );
    return row?.lsn ?? undefined;
  }

  /** Slots as the orders say. False while one that has to go is still in use. */
  async maintainSlots(orders: Orders): Promise<boolean> {
    const { seen } = await this.observe();
    const replayed = seen?.inRecovery === true ? parseLsn(seen.replayed) : undefined;
    if (this.#view.state === 'running') {
      await (this.#view.as === 'primary' ? keepAnchor(this.#session) : dropAnchor(this.#session));
    }
    const slots = await readSlots(this.#session);
    for (const action of planSlots(orders.slots, slots, replayed)) {
      await applySlotAction(this.#session, action);
      if (action.kind !== 'advance') this.#log.info({ slot: action.name }, `slot: ${action.kind}`);
    }
    return !slots.some((slot) => slot.active && isUnwanted(slot, orders.slots));
  }

  /** After the certificate changed: Postgres gets its copies and reads them. */
  async renewCertificate(): Promise<void> {
    const { configuration, credentials } = this.#options;
    await this.#door.alone(() => writePostgresTls(configuration.runTls, credentials()));
    if (!this.#door.isGoingDown) this.#server.reload();
  }

  /**
   * Bounded: in order for `fastMs` (0: not tried), then at once. Whoever waits for followers is awaited for a moment; where
   * the wait goes on, `ifCommitsWait` says how it is ended. Either way nobody sees what only this member has.
   * @param onShutdown Postgres is told to shut down in order at this moment: from here on followers are sent its end.
   */
  async stop(
    fastMs: number,
    ifCommitsWait: 'fast' | 'immediate' = 'immediate',
    onShutdown?: () => void,
  ): Promise<void> {
    this.#door.goDown();
    const { pid } = this.#server;
    let quiet: QuietPostgres = { mayBeFast: fastMs > 0, frozen: [] };
    if (fastMs > 0 && pid !== undefined && (this.#quieting !== undefined || this.#mayHaveWaitingCommits())) {
      // Once: whoever stops it meanwhile, too, finds the door shut, and clients inside that aren't frozen yet.
      this.#quieting ??= this.#quieten(pid, ifCommitsWait);
      quiet = await this.#quieting;
    }
    // Ended by somebody else meanwhile, and what runs by now, if anything, is another one.
    if (this.#server.pid !== pid) return;
    // It may be in a long statement: its end isn't waited for.
    void this.#session.close();
    if (quiet.mayBeFast) onShutdown?.();
    await this.#server.stop(quiet.mayBeFast ? fastMs : 0, quiet.frozen);
  }

  /** Shown by /proc: whatever of Postgres is left when its postmaster has gone is killed. */
  async clearLeftovers(): Promise<void> {
    if (this.#view.state === 'stopped') await killLeftovers();
  }

  /** What Postgres shows, by a look begun no earlier than `since` if it answers in time: `begunAt` says so. */
  async observe(since?: number): Promise<Observation> {
    if (this.#view.state === 'stopped' || !this.#view.isReady) return neverSeen;
    return this.#observations.latest(since);
  }

  /**
   * The folder of the sockets may outlive the container, with the lock file of a postmaster that is gone; its process number
   * may well be one of ours now, and Postgres would take that for the owner. Nothing of Postgres runs here at this moment.
   */
  async #clearSockets(): Promise<void> {
    const folder = this.#options.configuration.paths.postgresSockets;
    for (const name of await readdir(folder)) {
      if (name.startsWith('.s.PGSQL.')) await rm(join(folder, name), { force: true });
    }
  }

  /** 0 on a standby. */
  async #writtenTimeline(): Promise<number> {
    const [row] = await this.#session.query<{ timeline: number }>(
      `select case when pg_catalog.pg_is_in_recovery() then 0
              else ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int
              end as timeline`,
    );
    return row?.timeline ?? 0;
  }

  /** With the closed access file in force: newcomers are shown to be refused, and then nobody is left who came before. */
  async #emptyBehindShutDoor(): Promise<void> {
    await assertDoorIsClosed(this.#options.configuration.ports.postgres);
    const { pid } = this.#server;
    if (pid === undefined) throw new Error('Postgres has gone');
    await endClients(this.#session, pid);
    this.#door.emptied();
  }

  #quieten(postmaster: number, ifCommitsWait: 'fast' | 'immediate'): Promise<QuietPostgres> {
    if (this.#view.state === 'running') this.#view = { ...this.#view, isOpen: false, configuration: '' };
    this.#options.onShut();
    const { configuration, log } = this.#options;
    const reload = (): void => {
      // It may have ended by itself, and another one begun.
      if (this.#server.pid === postmaster) this.#server.reload();
    };
    return quieten({ configuration, postmaster, ifCommitsWait, shutDoor: () => this.#door.shut(), reload, log });
  }

  /** With nobody who acknowledges nothing waits; where the door was never opened nobody is inside. */
  #mayHaveWaitingCommits(): boolean {
    const { state } = this.#view;
    if (state === 'stopped' || this.#view.as === 'standby' || !this.#door.mayHaveClients) return false;
    return this.#listInForce?.acknowledgements !== 0;
  }

  async #render(orders: Orders): Promise<RenderedConfiguration> {
    const key = JSON.stringify(orders.parameters);
    if (this.#validated.key !== key) {
      const { pgdata } = this.#options.configuration.paths;
      this.#validated = { key, ...(await validateParameters(pgdata, orders.parameters, this.env)) };
    }
    const rendered = renderConfiguration(orders, this.#validated.accepted, this.#limits, this.#options.configuration);
    return { ...rendered, problems: [...rendered.problems, ...this.#validated.problems] };
  }

  /**
   * After it no walsender goes by the former list. A list that only grew, with the same k, needs none: whoever still has
   * the shorter one waits for members that the longer one has, too. Otherwise every stream is ended, and their walsenders
   * are seen to be gone: the new ones start with the new list (docs/design-traps.md, A9).
   */
  async #passBarrier(
    before: SynchronousList | undefined,
    after: SynchronousList,
    as: 'primary' | 'standby',
  ): Promise<void> {
    const change = compareLists(before, after);
    if (change === 'same' || change === 'grown') return;
    if (change === 'begun') await this.#session.query('checkpoint', [], CHECKPOINT_MS);
    // Nobody commits on a standby: those who stream from it after a promotion begin with the present list.
    if (as === 'standby') return;
    await this.#outlastRouters(change);
    const former = await this.#streamingPids();
    this.#options.endStreams();
    const giveUpAt = performance.now() + BARRIER_MS;
    for (;;) {
      const present = new Set(await this.#streamingPids());
      if (!former.some((pid) => present.has(pid))) return;
      if (performance.now() > giveUpAt) throw new Error('a walsender with the former synchronous list does not end');
      await sleep(50);
    }
  }

  /**
   * Routers deliver what they read from a member that leaves the list for as long as they go by the former one, and the barrier's
   * position has to be past all of that (docs/design-traps.md, A17). An agent that doesn't know what was in force may have told
   * them just before it was started anew.
   */
  async #outlastRouters(change: ListChange): Promise<void> {
    const ageMs = performance.now() - this.#bornAt;
    const waitMs = change === 'begun' ? membershipHeldMs - ageMs : membershipHeldMs;
    if (waitMs > 0 && this.#view.state === 'running' && this.#view.isOpen) await sleep(waitMs);
  }

  /** Of those that a list may count: base copies, and whoever else replicates, have names of another form. */
  async #streamingPids(): Promise<number[]> {
    const rows = await this.#session.query<{ pid: number }>(
      `select pid from pg_catalog.pg_stat_replication where application_name ~ '^[^ /]+/[0-9a-f]{16}$'`,
    );
    return rows.map(({ pid }) => pid);
  }
}
