/** What an action of the taint proof has at hand: its client, and the messages and statements that most are made of. */
import { queryMessage } from '#router/wire/client-messages.ts';
import { int16, int32, message } from '#router/wire/writer.ts';
import type { Tenant, Witness } from './witness.ts';

/** What an action may do with its client. */
export interface Stage {
  readonly witness: Witness;
  readonly random: () => number;
  /** Names of prepared statements that were made on this connection. */
  readonly prepared: Set<string>;
  /** The role may act for others than the witness' tenant, too. */
  readonly mayChangeTenant: boolean;
  /** Sends, and judges everything up to the ReadyForQuery. True where there was no error. `status`: what it may end in. */
  say(bytes: readonly Buffer[], expected?: readonly string[], status?: string): Promise<boolean>;
  /** The same up to the first of a type, an error or the ReadyForQuery, without judging how it ends. True where that type came. */
  hear(bytes: readonly Buffer[], type: string): Promise<boolean>;
  /** Sends, and takes nothing off the connection for so long. */
  ignore(bytes: readonly Buffer[], forMs: number): Promise<void>;
  /** A cancel request for what runs. Resolves when it has surely been aimed. */
  cancel(): Promise<void>;
  hangUp(): void;
}

export type Action = (stage: Stage) => Promise<unknown>;

export const query = (sql: string): Buffer => queryMessage(sql);
export const parse = (name: string, sql: string): Buffer => message(0x50, name, sql, int16(0));
export const bind = (portal = '', name = ''): Buffer => message(0x42, portal, name, int16(0), int16(0), int16(0));
export const execute = (portal = '', rows = 0): Buffer => message(0x45, portal, int32(rows));
export const batch = (sql: string): Buffer[] => [parse('', sql), bind(), execute()];

/** Rows that Postgres marks with the tenant that it believes in, whatever was asked. */
export const rows = ({ witness, random }: Stage, more = ''): string =>
  `${more}select tenant_id || ':${witness.nonce}' from accounts where id <= ${1 + Math.floor(random() * 40)}`;

/** The same, and which connection to which member they came by: who shared it is counted (Witness.connections). */
export const placed = ({ witness }: Stage): string =>
  `select tenant_id || ':${witness.nonce} at ' || inet_server_addr() || '/' || pg_backend_pid() from accounts where id <= 3`;

export const anyEnd = 'ZI ZT ZE';

export const text = (value: string): Buffer[] => [int32(value.length), Buffer.from(value)];

/** Somebody else from now on: what is left of before is nobody's. */
export async function changeTenant(stage: Stage, tenant: Tenant): Promise<void> {
  if (!(await stage.say([query('discard all')]))) return;
  stage.prepared.clear();
  if (await stage.say([query(`set meridian.tenant = '${tenant}'`)])) stage.witness.tenant = tenant;
}
