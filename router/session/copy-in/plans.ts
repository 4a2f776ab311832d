/** Plans of the statements that a COPY FROM turns into: they are never parsed, but what is lost with them counts the same. */
import type { StatementPlan } from '../../plan/types.ts';

const plain: StatementPlan = {
  text: '',
  start: 0,
  end: 0,
  kind: 'insert',
  access: 'write',
  mayShare: false,
  touches: 'tenant',
  tenant: { from: 'none' },
  tables: [],
  calls: [],
};

export const insertPlan = plain;
export const columnsPlan: StatementPlan = { ...plain, kind: 'select', access: 'read', touches: 'nothing' };
export const commitPlan: StatementPlan = {
  ...plain,
  kind: 'transaction',
  access: 'read',
  touches: 'nothing',
  transaction: { verb: 'commit' },
};
export const rollbackPlan: StatementPlan = { ...commitPlan, transaction: { verb: 'rollback' } };
