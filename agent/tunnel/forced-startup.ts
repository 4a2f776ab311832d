/**
 * What a connection through a tunnel may be inside Postgres, by the tunnel's purpose. Nothing of what the other side
 * asked for is taken over but the database of the slot synchronisation worker. Pure.
 * Invariant: only `stream` gets the name that `synchronous_standby_names` lists; every other purpose's name can't match it
 * (docs/design.md, section 4; docs/design-traps.md, A20 and B13).
 */
import { type MemberIdentity, replicationName } from '#core/identity.ts';
import type { TunnelPurpose } from '#core/protocol/tunnel.ts';
import { replicationRole, rewindDatabase } from '#core/roles.ts';

export type ForcedStartup =
  | { readonly kind: 'accepted'; readonly parameters: ReadonlyMap<string, string> }
  | { readonly kind: 'refused'; readonly reason: string };

export function forceStartup(
  purpose: TunnelPurpose,
  from: MemberIdentity,
  asked: ReadonlyMap<string, string>,
): ForcedStartup {
  const replication = asked.get('replication');
  switch (purpose) {
    case 'stream':
    case 'basebackup': {
      if (!isPhysical(replication)) return { kind: 'refused', reason: `${purpose} is for physical replication only` };
      const name = purpose === 'stream' ? replicationName(from) : `basebackup of ${replicationName(from)}`;
      return { kind: 'accepted', parameters: physical(name) };
    }
    case 'rewind': {
      if (replication !== undefined) return { kind: 'refused', reason: 'rewind is for a plain connection' };
      // It reads files, by functions that its role may call in this database alone.
      const readOnly = ['default_transaction_read_only', 'on'] as const;
      return { kind: 'accepted', parameters: plain(rewindDatabase, `rewind of ${replicationName(from)}`, readOnly) };
    }
    case 'slotsync': {
      const database = asked.get('database');
      if (replication !== undefined || database === undefined) {
        return { kind: 'refused', reason: 'slotsync is for a plain connection to one database' };
      }
      return { kind: 'accepted', parameters: plain(database, `slotsync of ${replicationName(from)}`) };
    }
  }
}

const physical = (name: string): Map<string, string> =>
  new Map([
    ['user', replicationRole],
    ['replication', 'true'],
    ['application_name', name],
  ]);

const plain = (database: string, name: string, ...more: (readonly [string, string])[]): Map<string, string> =>
  new Map([
    ['user', replicationRole],
    ['database', database],
    ['application_name', name],
    ['client_encoding', 'UTF8'],
    ...more,
  ]);

/** `database` asks for logical replication, anything else is a boolean in one of Postgres' spellings. */
function isPhysical(replication: string | undefined): boolean {
  return replication !== undefined && ['true', 'on', 'yes', '1'].includes(replication.toLowerCase());
}
