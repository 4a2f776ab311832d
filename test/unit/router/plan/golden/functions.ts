/** The functions of a plain Postgres 17 (captured by `capture-functions.ts`), and more as a test wants them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { functionRowsOf } from '#router/map/function-rows.ts';
import { FunctionCatalogue } from '#router/plan/functions.ts';

const lines = readFileSync(join(import.meta.dirname, 'functions17.tsv'), 'utf8').trimEnd().split('\n');

/** `more`: rows of the same form: what, schema, name, forms. */
export const functionsWith = (...more: readonly (readonly [string, string, string, string])[]): FunctionCatalogue =>
  new FunctionCatalogue(functionRowsOf([...lines.map((line) => line.split('\t')), ...more]));
