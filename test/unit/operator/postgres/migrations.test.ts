/** What is declared is compared with what is applied before anything runs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { statementsToRefuse } from '#operator/postgres/migration-text.ts';
import { compareWithRecord, type Migration, migrationChecksum } from '#operator/postgres/migrations.ts';

const record = (migrations: readonly Migration[]) =>
  migrations.map(({ name, sql }) => ({ name, sha256: migrationChecksum(sql) }));

const migrations = fc.uniqueArray(fc.record({ name: fc.string({ minLength: 1 }), sql: fc.string() }), {
  selector: (migration) => migration.name,
  maxLength: 6,
});

test('any beginning of what is declared may be applied already', () => {
  fc.assert(
    fc.property(migrations, fc.nat(), (declared, count) => {
      assert.equal(compareWithRecord(declared, record(declared.slice(0, count))), undefined);
    }),
  );
});

test('a changed text, a removed, an inserted and a moved migration are each found', () => {
  fc.assert(
    fc.property(migrations, fc.nat(), (declared, pick) => {
      fc.pre(declared.length > 0);
      const at = pick % declared.length;
      const one = declared[at];
      assert.ok(one);
      const applied = record(declared);
      const changed = compareWithRecord(declared.with(at, { ...one, sql: `${one.sql} ` }), applied);
      assert.deepEqual([changed?.reason, changed?.name], ['Changed', one.name]);
      assert.equal(compareWithRecord(declared.toSpliced(at, 1), applied)?.reason, 'OrderChanged');
      const inserted = { name: declared.map(({ name }) => name).join('+') + '+', sql: '' };
      assert.equal(compareWithRecord(declared.toSpliced(at, 0, inserted), applied)?.reason, 'OrderChanged');
      if (declared.length > 1) {
        assert.equal(compareWithRecord(declared.toReversed(), applied)?.reason, 'OrderChanged');
      }
    }),
  );
});

for (const [text, ...names] of [
  ['create table t (a int); commit', 'COMMIT'],
  ['begin; savepoint s; rollback', 'BEGIN', 'SAVEPOINT', 'ROLLBACK'],
  ['set local role boss', 'SET role'],
  ['reset session authorization; reset all', 'SET session_authorization', 'RESET ALL'],
  [`set session_replication_role = 'replica'`, 'SET session_replication_role'],
  [`set local lock_timeout = '1s'; select 'commit' -- commit`],
  [`create function f() returns int language plpgsql as $$ begin return 1; end $$`],
  ['this is no SQL; commit'],
] as const) {
  test(`${names.length === 0 ? 'nothing' : names.join(', ')} is refused of: ${text}`, async () => {
    assert.deepEqual(await statementsToRefuse(text), names);
  });
}
