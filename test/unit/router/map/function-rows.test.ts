/** What the router keeps of a database's functions; that the SQL reads them rightly is seen in the router's integration tests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { functionRowsOf, volatileNames } from '#router/map/function-rows.ts';

const row = (schema: string, name: string, forms: string) => functionRowsOf([['function', schema, name, forms]]);

test('the forms of a function are read as they stand', () => {
  const [read] = row('public', 'total', '1,2,s,f,f,t,f 0,-1,i,a,t,f,t');
  assert.deepEqual(read?.forms, [
    {
      minArguments: 1,
      maxArguments: 2,
      volatility: 'stable',
      kind: 'function',
      isSelfContained: false,
      takesRow: true,
      isShipped: false,
    },
    {
      minArguments: 0,
      maxArguments: Number.POSITIVE_INFINITY,
      volatility: 'immutable',
      kind: 'aggregate',
      isSelfContained: true,
      takesRow: false,
      isShipped: true,
    },
  ]);
});

test('a builtin that only answers differently each time leaves nothing behind, unless somebody else’s function has its name', () => {
  const sleep = row('pg_catalog', 'pg_sleep', '1,1,v,f,t,f');
  const nextval = row('pg_catalog', 'nextval', '1,1,v,f,t,f');
  assert.deepEqual([...volatileNames([...sleep, ...nextval])], ['nextval']);
  assert.deepEqual([...volatileNames([...sleep, ...row('public', 'pg_sleep', '1,1,v,f,f,f')])], ['pg_sleep']);
  assert.deepEqual([...volatileNames(row('public', 'total', '1,1,s,f,f,f 2,2,v,f,f,f'))], ['total']);
});
