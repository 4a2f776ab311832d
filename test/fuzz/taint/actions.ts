/** What clients of the taint proof do: each action says things with a mark in them, and which errors it brings about itself. */
import { setTimeout as sleep } from 'node:timers/promises';
import { flushMessage, queryMessage, syncMessage } from '#router/wire/client-messages.ts';
import { int16, int32, message } from '#router/wire/writer.ts';
import type { Witness } from './witness.ts';

/** What an action may do with its client. */
export interface Stage {
  readonly witness: Witness;
  readonly random: () => number;
  /** Names of prepared statements that were made on this connection. */
  readonly prepared: Set<string>;
  /** Sends, and judges everything up to the ReadyForQuery. True where there was no error. `status`: what it may end in. */
  say(bytes: readonly Buffer[], expected?: readonly string[], status?: string): Promise<boolean>;
  /** The same up to the first of a type, without judging how it ends. True where it came. */
  hear(bytes: readonly Buffer[], type: string): Promise<boolean>;
  /** A cancel request for what runs. Resolves when it has surely been aimed. */
  cancel(): Promise<void>;
  hangUp(): void;
}

type Action = (stage: Stage) => Promise<unknown>;

const query = (sql: string): Buffer => queryMessage(sql);
const parse = (name: string, sql: string): Buffer => message(0x50, name, sql, int16(0));
const bind = (portal = '', name = ''): Buffer => message(0x42, portal, name, int16(0), int16(0), int16(0));
const execute = (portal = '', rows = 0): Buffer => message(0x45, portal, int32(rows));
const batch = (sql: string): Buffer[] => [parse('', sql), bind(), execute()];

/** Rows that Postgres marks with the tenant that it believes in, whatever was asked. */
const rows = ({ witness, random }: Stage, more = ''): string =>
  `${more}select tenant_id || ':${witness.nonce}' from accounts where id <= ${1 + Math.floor(random() * 40)}`;

const anyEnd = 'ZI ZT ZE';

export const actions: readonly Action[] = [
  // Plain reads, most of what there is: simple, extended, at a follower.
  (stage) => stage.say([query(rows(stage))]),
  (stage) => stage.say([...batch(rows(stage)), syncMessage]),
  (stage) => stage.say([query(rows(stage, "/* consistency='eventual' */ "))], ['0A000']),
  // Errors and notices.
  (stage) => stage.say([query(`select fail('${stage.witness.nonce}')`)], ['P0042']),
  (stage) => stage.say([query(`do $$ begin raise notice '${stage.witness.mark}'; end $$`)]),
  // A pipeline that fails in the middle.
  (stage) =>
    stage.say(
      [...batch(rows(stage)), ...batch(`select fail('${stage.witness.nonce}')`), ...batch(rows(stage)), syncMessage],
      ['P0042'],
    ),
  // Several pipelines at once, one of them failing.
  async (stage) => {
    const bytes = [
      ...batch(rows(stage)),
      syncMessage,
      ...batch('select 1/0 from accounts'),
      syncMessage,
      ...batch(rows(stage)),
      syncMessage,
    ];
    await stage.say(bytes, ['22012']);
    await stage.say([], ['22012']);
    await stage.say([]);
  },
  // Transactions, that fail or not.
  async (stage) => {
    await stage.say([query('begin')], [], anyEnd);
    await stage.say([query(rows(stage))], ['25P02'], anyEnd);
    await stage.say(
      [query(stage.random() < 0.5 ? 'select 1 / 0 from accounts' : rows(stage))],
      ['22012', '25P02'],
      anyEnd,
    );
    await stage.say([query(stage.random() < 0.5 ? 'commit' : 'rollback')], ['25P02'], anyEnd);
  },
  // A time-out within one.
  async (stage) => {
    await stage.say([query('begin')], [], anyEnd);
    await stage.say([query("set local statement_timeout = '15ms'")], ['25P02'], anyEnd);
    await stage.say(
      [query(`select tenant_id || ':${stage.witness.nonce}' from accounts, pg_sleep(0.2) where id = 1`)],
      ['57014', '25P02'],
      anyEnd,
    );
    await stage.say([query('rollback')], [], anyEnd);
  },
  // Portals with row limits.
  (stage) =>
    stage.say(
      [parse('', rows(stage)), bind('p'), execute('p', 3), execute('p', 2), execute('p', 0), syncMessage],
      ['34000'],
    ),
  // Prepared statements, made on whatever backend there is.
  (stage) => {
    const name = `p${Math.floor(stage.random() * 5)}`;
    const made = stage.prepared.has(name) ? [] : [parse(name, "select tenant_id || ':' || $1 from accounts")];
    stage.prepared.add(name);
    const value = Buffer.from(stage.witness.nonce);
    const bound = message(0x42, '', name, int16(0), int16(1), int32(value.length), value, int16(0));
    // It may not have been made when its backend was killed.
    return stage.say([...made, bound, execute(), syncMessage], ['26000']);
  },
  // COPY both ways.
  (stage) => stage.say([query(`copy (${rows(stage)}) to stdout`)]),
  async (stage) => {
    const { witness, random } = stage;
    await stage.say([query('begin')], [], anyEnd);
    const id = 1_000 + Math.floor(random() * 1e9);
    if (await stage.hear([query('copy accounts (tenant_id, id, owner) from stdin')], 'G')) {
      const line = `${witness.tenant}\t${id}\t${witness.nonce}\n`;
      await stage.say([message(0x64, Buffer.from(line)), message(0x63)], [], anyEnd);
      await stage.say([query(`select tenant_id || ':' || owner from accounts where id = ${id}`)], ['25P02'], anyEnd);
    }
    await stage.say([query('rollback')], [], anyEnd);
  },
  async (stage) => {
    if (!(await stage.hear([query('copy accounts (tenant_id, id) from stdin')], 'G'))) return;
    const line =
      stage.random() < 0.5 ? `${stage.witness.tenant}\t${stage.witness.nonce}\n` : `${stage.witness.tenant}\n`;
    await stage.say(
      [message(0x64, Buffer.from(line)), message(0x64, Buffer.from(line)), message(0x63)],
      ['22P02', '22P04'],
    );
  },
  async (stage) => {
    if (!(await stage.hear([query('copy accounts (tenant_id, id) from stdin')], 'G'))) return;
    await stage.say([message(0x66, stage.witness.nonce)], ['57014']);
  },
  // Settings that stay with their session.
  async (stage) => {
    if (!(await stage.say([query(`set app.nonce = '${stage.witness.nonce}'`)]))) return;
    for (const _ of [1, 2])
      await stage.say([query(`select '${stage.witness.tenant}:' || current_setting('app.nonce')`)]);
  },
  (stage) => stage.say([query(`set application_name = '${stage.witness.nonce}'`)]),
  // What is kept.
  async (stage) => {
    const table = `kept_${stage.witness.nonce.replaceAll('-', '_')}`;
    if (!(await stage.say([query(`create temp table ${table} as select '${stage.witness.mark}'::text as mark`)])))
      return;
    await stage.say([query(`select mark from ${table}`)]);
    await stage.say([query(`drop table ${table}`)]);
  },
  async (stage) => {
    if (!(await stage.say([query('listen word')]))) return;
    await stage.say([query(`notify word, '${stage.witness.mark}'`)]);
    await stage.say([query('unlisten *')]);
  },
  (stage) => stage.say([query(`notify word, '${stage.witness.tenant}:none'`)]),
  async (stage) => {
    if (
      !(await stage.say([
        query(`select '${stage.witness.mark}' where pg_try_advisory_lock(${Math.floor(stage.random() * 9)})`),
      ]))
    )
      return;
    await stage.say([query('do $$ begin perform pg_advisory_unlock_all(); end $$')]);
  },
  // Cancelled, or not, depending on when it comes.
  async (stage) => {
    const slow = `select tenant_id || ':${stage.witness.nonce}' from accounts, pg_sleep(0.3) where id = 1`;
    const said = stage.say([query(slow)], ['57014']);
    // Heard of below: it may fail before that.
    said.catch(() => undefined);
    await sleep(stage.random() * 30);
    await stage.cancel();
    await said;
  },
  // Gone in the middle.
  async (stage) => {
    const bytes = stage.random() < 0.5 ? [query(rows(stage))] : [...batch(rows(stage)), flushMessage];
    await stage.hear(bytes, stage.random() < 0.5 ? 'never' : 'D');
    stage.hangUp();
  },
];
