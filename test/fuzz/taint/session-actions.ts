/** Actions about what stays with a session: settings, and what only the backend that it keeps has. And sessions that become another's. */
import { type Action, changeTenant, query, type Stage } from './stage.ts';
import { tenants } from './witness.ts';

const shown = ({ witness }: Stage, name: string): string => `select '${witness.tenant}:' || current_setting('${name}')`;

export const sessionActions: Readonly<Record<string, Action>> = {
  setting: async (stage) => {
    if (!(await stage.say([query(`set app.nonce = '${stage.witness.nonce}'`)]))) return;
    for (const _ of [1, 2]) await stage.say([query(shown(stage, 'app.nonce'))]);
  },
  'application name': (stage) => stage.say([query(`set application_name = '${stage.witness.nonce}'`)]),
  'setting of a function': async (stage) => {
    if (!(await stage.say([query(`select set_config('app.said', '${stage.witness.mark}', false)`)]))) return;
    await stage.say([query(`select current_setting('app.said')`)]);
  },
  // What nobody but itself may see once it is said.
  'setting of a transaction': async (stage) => {
    const { witness } = stage;
    const statements = `begin; set local app.once = '${witness.nonce}'; ${shown(stage, 'app.once')}; commit`;
    await stage.say([query(statements)]);
    await stage.say([query(`select '${witness.mark} ' || coalesce(current_setting('app.once', true), '')`)]);
  },
  'temporary table': async (stage) => {
    const table = `kept_${stage.witness.nonce.replaceAll('-', '_')}`;
    if (!(await stage.say([query(`create temp table ${table} as select '${stage.witness.mark}'::text as mark`)])))
      return;
    await stage.say([query(`select mark from ${table}`)]);
    await stage.say([query(`drop table ${table}`)]);
  },
  listen: async (stage) => {
    if (!(await stage.say([query('listen word')]))) return;
    await stage.say([query(`notify word, '${stage.witness.mark}'`)]);
    await stage.say([query('unlisten *')]);
  },
  notify: (stage) => stage.say([query(`notify word, '${stage.witness.tenant}:none'`)]),
  'advisory lock': async (stage) => {
    const key = Math.floor(stage.random() * 9);
    if (!(await stage.say([query(`select '${stage.witness.mark}' where pg_try_advisory_lock(${key})`)]))) return;
    await stage.say([query('do $$ begin perform pg_advisory_unlock_all(); end $$')]);
  },
  'prepare in SQL': async (stage) => {
    const sql = `prepare mine as select tenant_id || ':${stage.witness.nonce}' from accounts where id <= 5`;
    if (!(await stage.say([query(sql)]))) return;
    await stage.say([query('execute mine')]);
    await stage.say([query('deallocate mine')]);
  },
  'cursor with hold': async (stage) => {
    const sql = `declare mine cursor with hold for select tenant_id || ':${stage.witness.nonce}' from accounts`;
    if (!(await stage.say([query(sql)]))) return;
    await stage.say([query('fetch 3 from mine')]);
    await stage.say([query('close mine')]);
  },
  // From here on it may share connections with others again.
  'discard all': async (stage) => {
    // The tenant goes back to the one that it began with.
    if (stage.mayChangeTenant) return changeTenant(stage, stage.witness.tenant);
    if (await stage.say([query('discard all')])) stage.prepared.clear();
  },
  'another tenant': async (stage) => {
    const { witness, random, mayChangeTenant } = stage;
    const others = tenants.filter((tenant) => tenant !== witness.tenant);
    const other = others[Math.floor(random() * others.length)];
    if (mayChangeTenant && other !== undefined) await changeTenant(stage, other);
  },
};
