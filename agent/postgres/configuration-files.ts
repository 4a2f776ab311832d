/**
 * The text of postgresql.conf, pg_hba.conf and pg_ident.conf. Pure. They lie outside the data directory, so that a base
 * copy or a rewind never brings another member's.
 * Two access files: *closed* lets in nobody but the agent, and is what lies on disk before every start; *open* is
 * written when this member may serve (docs/design.md, section 4, "Opening gate").
 * Source: PostgreSQL documentation, "The pg_hba.conf File", "User Name Maps".
 */
import {
  agentRole,
  applicationGroup,
  certificateNames,
  directGroup,
  operatorRole,
  replicationRole,
  routerRole,
} from '#core/roles.ts';

const banner = '# Written by the Meridian agent; changes are overwritten.\n';
/** The operating system's user in our images. */
export const localUser = 'meridian';

/** Single quotes are doubled and backslashes too ("Parameter Interaction via the Configuration File"). */
export function renderParameters(parameters: Readonly<Record<string, string>>): string {
  const lines = Object.entries(parameters)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name} = '${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`);
  return `${banner}${lines.join('\n')}\n`;
}

const localAccess = [
  `local   all           ${agentRole}        peer map=local`,
  `local   all           ${replicationRole}  peer map=local`,
  `local   replication   ${replicationRole}  peer map=local`,
  'local   all           all                 reject',
];

/** `closed`: nobody comes in over the network. */
export function renderHostAccess(access: 'closed' | 'open'): string {
  const network =
    access === 'closed'
      ? []
      : [
          `hostssl all           ${operatorRole}     all  cert map=network`,
          `hostssl all           ${routerRole}       all  cert map=network`,
          `hostssl all           +${applicationGroup} all  cert map=network`,
          `hostssl all           +${directGroup}      all  scram-sha-256`,
        ];
  // The last lines say in the log what refused a connection, rather than "no pg_hba.conf entry".
  return `${banner}${[...localAccess, ...network, 'host    all           all  all  reject', 'host    replication   all  all  reject'].join('\n')}\n`;
}

/** Who a peer's operating system user or certificate may log in as. A leading + is a group (PostgreSQL 16 and later). */
export function renderUserMaps(): string {
  const maps: readonly (readonly [string, string, string])[] = [
    ['local', localUser, agentRole],
    ['local', localUser, replicationRole],
    ['network', certificateNames.operator, operatorRole],
    ['network', certificateNames.router, routerRole],
    ['network', certificateNames.router, `+${applicationGroup}`],
  ];
  return `${banner}${maps.map((map) => map.join('  ')).join('\n')}\n`;
}
