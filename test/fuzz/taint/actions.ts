/** What clients of the taint proof do: each action says things with a mark in them, and which errors it brings about itself. */
import { setTimeout as sleep } from 'node:timers/promises';
import { flushMessage, syncMessage } from '#router/wire/client-messages.ts';
import { int16, message } from '#router/wire/writer.ts';
import { sessionActions } from './session-actions.ts';
import { type Action, anyEnd, batch, bind, execute, parse, placed, query, rows, text } from './stage.ts';

/** By name, as failures call them. */
export const actions: Readonly<Record<string, Action>> = {
  // Plain reads, most of what there is: simple, extended, at a follower. Quick ones share connections (pool/lane.ts).
  read: (stage) => stage.say([query(rows(stage))]),
  'read in a batch': (stage) => stage.say([...batch(rows(stage)), syncMessage]),
  'read at a follower': (stage) => stage.say([query(rows(stage, "/* consistency='eventual' */ "))], ['0A000']),
  'read where': (stage) => stage.say([query(placed(stage))]),
  'read where, in a batch': (stage) => stage.say([...batch(placed(stage)), syncMessage]),
  'read where, several times': async (stage) => {
    for (let times = 0; times < 5; times++) {
      stage.witness.next();
      await stage.say([query(placed(stage))]);
    }
  },
  // Errors that come by a shared connection, and others.
  'shared failure': (stage) =>
    stage.say([query(`select (tenant_id || ':${stage.witness.nonce}')::int from accounts where id = 1`)], ['22P02']),
  'shared failure in a batch': (stage) =>
    stage.say(
      [...batch(`select (tenant_id || ':${stage.witness.nonce}')::int from accounts where id = 1`), syncMessage],
      ['22P02'],
    ),
  'shared failure after rows': (stage) =>
    stage.say(
      [query(`select tenant_id || ':${stage.witness.nonce} ' || 1 / (20 - id) from accounts order by id`)],
      ['22012'],
    ),
  failure: (stage) => stage.say([query(`select fail('${stage.witness.nonce}')`)], ['P0042']),
  notice: (stage) => stage.say([query(`do $$ begin raise notice '${stage.witness.mark}'; end $$`)]),
  'pipeline that fails in the middle': (stage) =>
    stage.say(
      [...batch(rows(stage)), ...batch(`select fail('${stage.witness.nonce}')`), ...batch(rows(stage)), syncMessage],
      ['P0042'],
    ),
  'several pipelines at once, one of them failing': async (stage) => {
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
  transaction: async (stage) => {
    await stage.say([query('begin')], [], anyEnd);
    await stage.say([query(rows(stage))], ['25P02'], anyEnd);
    await stage.say(
      [query(stage.random() < 0.5 ? 'select 1 / 0 from accounts' : rows(stage))],
      ['22012', '25P02'],
      anyEnd,
    );
    await stage.say([query(stage.random() < 0.5 ? 'commit' : 'rollback')], ['25P02'], anyEnd);
  },
  'time-out': async (stage) => {
    await stage.say([query('begin')], [], anyEnd);
    await stage.say([query("set local statement_timeout = '15ms'")], ['25P02'], anyEnd);
    await stage.say(
      [query(`select tenant_id || ':${stage.witness.nonce}' from accounts, pg_sleep(0.2) where id = 1`)],
      ['57014', '25P02'],
      anyEnd,
    );
    await stage.say([query('rollback')], [], anyEnd);
  },
  'portal with row limits': (stage) =>
    stage.say(
      [parse('', rows(stage)), bind('p'), execute('p', 3), execute('p', 2), execute('p', 0), syncMessage],
      ['34000'],
    ),
  // Made on whatever backend there is; shared by those who have the same text.
  'prepared statement': (stage) => {
    const name = `p${Math.floor(stage.random() * 5)}`;
    const made = stage.prepared.has(name) ? [] : [parse(name, "select tenant_id || ':' || $1 from accounts")];
    stage.prepared.add(name);
    const bound = message(0x42, '', name, int16(0), int16(1), ...text(stage.witness.nonce), int16(0));
    // It may not have been made when its backend was killed.
    return stage.say([...made, bound, execute(), syncMessage], ['26000']);
  },
  'prepared statement that fails': (stage) => {
    const sql = "select (tenant_id || ':' || $1)::int from accounts where id = 1";
    const bound = message(0x42, '', '', int16(0), int16(1), ...text(stage.witness.nonce), int16(0));
    return stage.say([parse('', sql), bound, execute(), syncMessage], ['22P02']);
  },
  'copy out': (stage) => stage.say([query(`copy (${rows(stage)}) to stdout`)]),
  'copy in': async (stage) => {
    const { witness, random } = stage;
    await stage.say([query('begin')], [], anyEnd);
    const id = 1_000 + Math.floor(random() * 1e9);
    if (await stage.hear([query('copy accounts (tenant_id, id, owner) from stdin')], 'G')) {
      const line = `${witness.tenant}\t${id}\t${witness.nonce}\n`;
      await stage.say([message(0x64, Buffer.from(line)), message(0x63)], [], anyEnd);
      await stage.say([query(`select tenant_id || ':' || owner from accounts where id = ${id}`)], ['25P02'], anyEnd);
    } else await stage.say([], ['25P02'], anyEnd);
    await stage.say([query('rollback')], [], anyEnd);
  },
  'copy in that fails': async (stage) => {
    if (!(await stage.hear([query('copy accounts (tenant_id, id) from stdin')], 'G'))) return stage.say([]);
    const line =
      stage.random() < 0.5 ? `${stage.witness.tenant}\t${stage.witness.nonce}\n` : `${stage.witness.tenant}\n`;
    return stage.say(
      [message(0x64, Buffer.from(line)), message(0x64, Buffer.from(line)), message(0x63)],
      ['22P02', '22P04'],
    );
  },
  'copy in that is given up': async (stage) => {
    if (!(await stage.hear([query('copy accounts (tenant_id, id) from stdin')], 'G'))) return stage.say([]);
    return stage.say([message(0x66, stage.witness.nonce)], ['57014']);
  },
  // A cancel that comes late hits nobody who came after; whether it hits depends on when it comes.
  cancel: async (stage) => {
    const slow = `select tenant_id || ':${stage.witness.nonce}' from accounts, pg_sleep(0.3) where id = 1`;
    const said = stage.say([query(slow)], ['57014']);
    // Heard of below: it may fail before that.
    said.catch(() => undefined);
    await sleep(stage.random() * 30);
    await stage.cancel();
    await said;
  },
  'cancel of what shares a connection': async (stage) => {
    const said = stage.say([query(rows(stage))], ['57014']);
    said.catch(() => undefined);
    await stage.cancel();
    await said;
  },
  // Gone in the middle.
  'hang-up': async (stage) => {
    const bytes = stage.random() < 0.5 ? [query(rows(stage))] : [...batch(rows(stage)), flushMessage];
    if (stage.random() < 0.5) await stage.ignore(bytes, stage.random() * 5);
    else await stage.hear(bytes, 'D');
    stage.hangUp();
  },
  // More than sockets hold, not taken for a while: others wait behind it on a shared connection.
  'slow client': async (stage) => {
    const { witness, random } = stage;
    const bytes = random() < 0.1 ? 120_000 : 4_000;
    const sql = `select tenant_id || ':${witness.nonce} ' || repeat('x', ${bytes}) from accounts where id <= 50`;
    await stage.ignore([query(sql)], random() * 250);
    if (random() < 0.3) stage.hangUp();
    else await stage.say([]);
  },
  ...sessionActions,
};
