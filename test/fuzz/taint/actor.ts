/** One client of the taint proof: logs in, does one thing after the other, judges what it hears, and comes again when it was thrown out. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { cancelRequest } from '#router/wire/startup.ts';
import { database, password, type RouterKeyspace, type TestRouter } from '../../integration/router-keyspace.ts';
import { RawClient, Silence, textsOf } from '../../integration/router-raw-client.ts';
import { actions } from './actions.ts';
import type { TaintCounts } from './run.ts';
import type { Action, Stage } from './stage.ts';
import type { Whereabouts } from './stall.ts';
import { type Sharing, type Tenant, tenants, Witness } from './witness.ts';

/** Longer than anything takes on a machine that is busy with other things. */
const patienceMs = Number(process.env['TAINT_PATIENCE'] ?? 120_000);

/** Who does such a thing shares no connection for a while, or has one with settings of its own: every other client doesn't. */
const lonely: ReadonlySet<string> = new Set([
  'read at a follower',
  'setting',
  'application name',
  'setting of a function',
]);

export interface Company {
  readonly keyspace: RouterKeyspace;
  readonly router: TestRouter;
  readonly seed: number;
  readonly counts: TaintCounts;
  readonly sharing: Sharing;
  readonly whereabouts: Whereabouts;
  /** Only these actions, of all that there are. */
  readonly only: readonly string[];
  readonly goOn: () => boolean;
}

/** A small generator with a seed (mulberry32): the same seed makes the same choices. */
function randomOf(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** @throws AssertionError at the first foreign byte, or an error of the client's about what should not have happened. */
export async function act(index: number, company: Company): Promise<void> {
  const { keyspace, router, seed, counts, whereabouts, only, goOn } = company;
  const random = randomOf(seed + index);
  const tenant = tenants[index % tenants.length] as Tenant;
  const user = index % 4 === 0 && tenant !== 'cord' ? `${tenant}_app` : 'any_app';
  const witness = new Witness(index, tenant, seed, company.sharing);
  const prepared = new Set<string>();
  const chosen = Object.entries(actions).filter(([name]) =>
    only.length > 0 ? only.includes(name) : index % 2 === 0 || !lonely.has(name),
  );
  let client: RawClient | undefined;
  const login = async (): Promise<RawClient> => {
    const options = user === 'any_app' ? { parameters: { options: `-c meridian.tenant=${witness.tenant}` } } : {};
    return RawClient.login(router.port, keyspace.ca.bundle, { user, password, database }, options);
  };
  while (goOn()) {
    try {
      whereabouts.at(index, 'logs in');
      client ??= await login();
    } catch (error) {
      if (error instanceof Silence) throw new Error(`client ${index} logs in (seed ${seed})`, { cause: error });
      // So many log in at once that some are turned away.
      whereabouts.at(index, 'was turned away');
      await sleep(100 + random() * 400);
      continue;
    }
    const at = client;
    const [name, action] = chosen[Math.floor(random() * chosen.length)] as [string, Action];
    const stage = stageOf(at, name, index, { company, witness, random, prepared, mayChangeTenant: user === 'any_app' });
    witness.next();
    witness.doing = name;
    try {
      await action(stage);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      if (!at.isClosed) throw new Error(`client ${index}, "${name}" (seed ${seed})`, { cause: error });
      // What it heard before its end counts as well.
      witness.judge(at.messages);
      counts.ended += 1;
    }
    if (!at.isClosed && !at.socket.destroyed) continue;
    prepared.clear();
    client = undefined;
  }
  client?.end();
  whereabouts.left(index);
}

interface Player {
  readonly company: Company;
  readonly witness: Witness;
  readonly random: () => number;
  readonly prepared: Set<string>;
  readonly mayChangeTenant: boolean;
}

function stageOf(at: RawClient, name: string, index: number, { company, ...player }: Player): Stage {
  const { counts, whereabouts, router } = company;
  const { witness } = player;
  const note = (what: string): void => whereabouts.at(index, `"${name}": ${what}`);
  return {
    ...player,
    say: async (bytes, expected = [], status = 'ZI') => {
      note('waits for ReadyForQuery');
      if (bytes.length > 0) witness.judgeLeftovers(at.messages);
      if (bytes.length > 0) at.send(...bytes);
      const messages = await at.until('Z', patienceMs);
      witness.note(textsOf(messages).slice(-40));
      witness.judge(messages);
      witness.judgeEnd(messages, expected, status);
      counts.responses += messages.length;
      return messages.every(({ type }) => type !== 'E');
    },
    hear: async (bytes, type) => {
      note(`waits for ${type}`);
      witness.judgeLeftovers(at.messages);
      at.send(...bytes);
      // After an error of the extended protocol nothing comes any more before a Sync.
      const messages = await at.untilAny([type, 'Z', 'E'], patienceMs);
      witness.judge(messages);
      witness.judgeErrors(messages, ['25P02']);
      counts.responses += messages.length;
      return messages.at(-1)?.type === type;
    },
    ignore: async (bytes, forMs) => {
      note('does not listen');
      witness.judgeLeftovers(at.messages);
      at.send(...bytes);
      at.socket.pause();
      await sleep(forMs);
      at.socket.resume();
    },
    cancel: async () => {
      note('cancels');
      const canceller = RawClient.plain(await RawClient.tcp(router.port));
      canceller.send(cancelRequest(at.processId, at.secret));
      // From then on it has either been aimed at this statement, or done nothing.
      await canceller.closed(patienceMs).catch((error: unknown) => {
        const { readyState, bytesRead, bytesWritten } = canceller.socket;
        throw new Error(`the cancel's connection: ${readyState}, ${bytesRead} read, ${bytesWritten} written`, {
          cause: error,
        });
      });
      counts.cancels += 1;
    },
    hangUp: () => {
      at.end();
      counts.hangUps += 1;
    },
  };
}
