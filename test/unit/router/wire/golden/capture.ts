/**
 * Captures what a real Postgres says, for `server-messages.test.ts`: `node capture.ts > postgres17.json`. Needs Docker; the bytes
 * come through the router, which passes a server's answers on as they are.
 */
import { queryMessage } from '#router/wire/client-messages.ts';
import { database, password, RouterKeyspace } from '#test/integration/router-keyspace.ts';
import { RawClient } from '#test/integration/router-raw-client.ts';

const statements = {
  show: 'show application_name',
  row: "select 'ä'::text as one, null::text as two, ''::text as three",
  error: "select 1 as a,\n  nosuch from (select 1) as t",
  raised: "select fail('broken')",
  empty: '',
};

const keyspace = await RouterKeyspace.start();
const router = await keyspace.router();
const client = await RawClient.login(
  router.port,
  keyspace.ca.bundle,
  { user: 'acme_app', password, database },
  { parameters: { application_name: 'golden' } },
);
const captured: Record<string, string[]> = {};
for (const [name, sql] of Object.entries(statements)) {
  client.send(queryMessage(sql));
  captured[name] = (await client.until('Z')).map((message) => message.frame.toString('hex'));
}
client.end();
await keyspace.stop();
console.log(JSON.stringify(captured, undefined, 2));
