/**
 * Captures the functions of a plain Postgres, as routers read them, for the planner's tests: `node capture-functions.ts`. Needs Docker.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentRole } from '#core/roles.ts';
import { functionsSql } from '#router/map/function-rows.ts';
import { PostgresFixture } from '#test/integration/postgres-fixture.ts';

const postgres = await PostgresFixture.start();
try {
  const client = await postgres.connect(agentRole, 'template1');
  const { rows } = await client.query<string[]>({ text: functionsSql, rowMode: 'array' });
  writeFileSync(join(import.meta.dirname, 'functions17.tsv'), `${rows.map((row) => row.join('\t')).join('\n')}\n`);
} finally {
  await postgres.stop();
}
