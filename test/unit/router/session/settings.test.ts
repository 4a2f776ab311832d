/** A session's settings follow its transactions as Postgres' do: compared with a model of what Postgres does. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { SessionSettings } from '#router/session/settings.ts';
import { plan } from '../exec/fixture.ts';

const startup = new Map([['application_name', "it's"]]);
const made = (): SessionSettings => new SessionSettings(startup, { level: 'eventual' });

describe('settings', () => {
  test('of the start-up packet are replayed from the beginning, and are what RESET goes back to', () => {
    const settings = made();
    const initial = "SELECT pg_catalog.set_config('application_name', 'it''s', false)";
    assert.equal(settings.replayText, initial);
    settings.setGeneric('application_name', "SET application_name = 'x'");
    settings.commit();
    assert.equal(settings.replayText, "SET application_name = 'x'");
    settings.resetGeneric('application_name');
    settings.commit();
    assert.equal(settings.replayText, initial);
  });

  test('are replayed in the order in which they were set last', () => {
    const settings = new SessionSettings(new Map(), {});
    for (const name of ['a', 'b', 'a']) settings.setGeneric(name, `SET ${name} = 1`);
    settings.commit();
    assert.equal(settings.replayText, 'SET b = 1\n;SET a = 1');
  });

  test('that last for a transaction only, or change nothing, are not replayed', () => {
    const settings = new SessionSettings(new Map(), {});
    const apply = (name: string, text: string): boolean =>
      settings.apply(plan({ kind: 'set', text, set: { name, local: false } }));
    apply('transaction', 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE');
    apply('transaction_read_only', 'SET transaction_read_only = on');
    apply('x.y', 'SET x.y FROM CURRENT');
    apply('transaction_timeout', 'SET transaction_timeout = 5');
    settings.commit();
    assert.equal(settings.replayText, 'SET transaction_timeout = 5');
  });

  test('LOCAL ones show over the session’s, until the transaction ends or the session’s are set', () => {
    const settings = made();
    settings.set({ tenant: 'local' }, true);
    settings.set({ level: 'strong' }, true);
    assert.deepEqual([settings.meridian.tenant, settings.meridian.level], ['local', 'strong']);
    settings.set({ tenant: 'session' }, false);
    assert.equal(settings.meridian.tenant, 'session');
    settings.commit();
    assert.deepEqual([settings.meridian.tenant, settings.meridian.level], ['session', 'eventual']);
  });

  test('forget a transaction’s savepoints with it, also when nothing was set in it', () => {
    const settings = made();
    settings.savepoint('s');
    settings.commit();
    settings.set({ tenant: 'later' }, false);
    settings.rollbackTo('s');
    assert.equal(settings.meridian.tenant, 'later');
  });

  test('are bounded in bytes, with savepoints, and there is room again after the transaction', () => {
    const settings = made();
    const tooMuch = { sqlstate: '54000' };
    const setting = (name: string, local: boolean) => {
      const text = `SET ${name} = '${'x'.repeat(10_000)}'`;
      return plan({ kind: 'set', text, set: { name, local } });
    };
    const fill = (planOf: (index: number) => ReturnType<typeof plan>, most: number): void => {
      for (let index = 0; index < most; index++) {
        settings.expectRoom([{ plan: planOf(index) }]);
        if (planOf(index).kind === 'set') settings.apply(planOf(index));
        else settings.savepoint(`s${index}`);
      }
    };
    assert.throws(() => fill((index) => setting(`app.x${index}`, true), 200), tooMuch);
    settings.commit();
    const savepoint = plan({ kind: 'transaction', transaction: { verb: 'savepoint', name: 's' } });
    assert.throws(() => fill(() => savepoint, 10_000), tooMuch);
    settings.rollback();
    fill((index) => setting(`app.y${index}`, false), 90);
    settings.commit();
    fill(() => setting('app.y1', false), 5);
    assert.throws(() => fill((index) => setting(`app.z${index}`, false), 20), tooMuch);
    settings.rollback();
    settings.expectRoom([{ plan: plan({ kind: 'select', text: 'x'.repeat(2_000_000) }) }]);
  });

  type Pair = readonly [session: string | undefined, local: string | undefined];

  test('do as a model says, through commits, rollbacks and savepoints', () => {
    type Action =
      | { kind: 'set'; value: string; local: boolean }
      | { kind: 'commit' | 'rollback' | 'reset' }
      | { kind: 'savepoint' | 'rollbackTo' | 'release'; name: string };
    const name = fc.constantFrom('a', 'b');
    const action: fc.Arbitrary<Action> = fc.oneof(
      fc.record({ kind: fc.constant('set' as const), value: fc.constantFrom('x', 'y', 'z'), local: fc.boolean() }),
      fc.record({ kind: fc.constantFrom('commit' as const, 'rollback' as const, 'reset' as const) }),
      fc.record({ kind: fc.constantFrom('savepoint' as const, 'rollbackTo' as const, 'release' as const), name }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 30 }), (actions) => {
        const settings = new SessionSettings(new Map(), {});
        // The model keeps every state in full: [session value, local value].
        let committed: Pair = [undefined, undefined];
        let current: Pair = [undefined, undefined];
        let stack: { name: string; state: Pair }[] = [];
        const find = (wanted: string): number => stack.findLastIndex((one) => one.name === wanted);
        for (const one of actions) {
          switch (one.kind) {
            case 'set':
              settings.set({ tenant: one.value }, one.local);
              current = one.local ? [current[0], one.value] : [one.value, undefined];
              break;
            case 'reset':
              settings.reset('tenant');
              current = [undefined, undefined];
              break;
            case 'commit':
              settings.commit();
              current = [current[0], undefined];
              committed = current;
              stack = [];
              break;
            case 'rollback':
              settings.rollback();
              current = committed;
              stack = [];
              break;
            case 'savepoint':
              settings.savepoint(one.name);
              stack.push({ name: one.name, state: current });
              break;
            case 'rollbackTo': {
              settings.rollbackTo(one.name);
              const index = find(one.name);
              if (index !== -1) {
                current = stack[index]?.state ?? current;
                stack = stack.slice(0, index + 1);
              }
              break;
            }
            case 'release': {
              settings.release(one.name);
              const index = find(one.name);
              if (index !== -1) stack = stack.slice(0, index);
              break;
            }
          }
          assert.equal(settings.meridian.tenant, current[1] ?? current[0]);
        }
      }),
    );
  });
});
