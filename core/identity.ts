/**
 * Who a peer is: the URI in a certificate's subject alternative names, and the name that a member has in replication.
 * Peers are dialled by address, so the URI, never a host name, is what both sides check (docs/design.md, section 4).
 */

/** A member of a shard: its pod's name, and the random id of its present volume. */
export interface MemberIdentity {
  readonly name: string;
  /** 16 lower-case hexadecimal characters, made together with the promise file. */
  readonly incarnation: string;
}

export type PeerIdentity =
  | { readonly kind: 'member'; readonly namespace: string; readonly keyspace: string; readonly member: string }
  /** An application's: worth something at a router only, and only for that role. */
  | { readonly kind: 'role'; readonly namespace: string; readonly keyspace: string; readonly role: string }
  | { readonly kind: 'router' | 'operator'; readonly namespace: string; readonly keyspace: string };

const uriForm =
  /^meridian:\/\/([a-z0-9-]+)\/([a-z0-9-]+)\/(?:member\/([a-z0-9.-]+)|role\/([a-z0-9_]+)|(router|operator))$/;

export function identityUri(identity: PeerIdentity): string {
  const place = `meridian://${identity.namespace}/${identity.keyspace}`;
  if (identity.kind === 'member') return `${place}/member/${identity.member}`;
  return identity.kind === 'role' ? `${place}/role/${identity.role}` : `${place}/${identity.kind}`;
}

/** The identity in a URI, or undefined where the URI is none of ours. */
export function parseIdentityUri(uri: string): PeerIdentity | undefined {
  const match = uriForm.exec(uri);
  const namespace = match?.[1];
  const keyspace = match?.[2];
  if (match === null || namespace === undefined || keyspace === undefined) return undefined;
  if (match[3] !== undefined) return { kind: 'member', namespace, keyspace, member: match[3] };
  if (match[4] !== undefined) return { kind: 'role', namespace, keyspace, role: match[4] };
  return { kind: match[5] === 'router' ? 'router' : 'operator', namespace, keyspace };
}

/**
 * The identity in a certificate's `subjectaltname` as Node prints it (`URI:meridian://..., DNS:...`).
 * Undefined when there is none, or more than one: an ambiguous certificate is nobody's.
 */
export function identityOfSubjectAltName(subjectAltName: string | undefined): PeerIdentity | undefined {
  const found = (subjectAltName ?? '')
    .split(', ')
    .filter((entry) => entry.startsWith('URI:'))
    .map((entry) => parseIdentityUri(entry.slice('URI:'.length)))
    .filter((identity) => identity !== undefined);
  return found.length === 1 ? found[0] : undefined;
}

export const incarnationForm = /^[0-9a-f]{16}$/;

/** The `application_name` of a member's WAL receiver on its primary; what `synchronous_standby_names` lists. */
export const replicationName = (member: MemberIdentity): string => `${member.name}/${member.incarnation}`;

/** The physical replication slot that other members keep for this one. */
export const slotName = (incarnation: string): string => `member_${incarnation}`;

/** Stands in the synchronous list when nobody else may acknowledge: the list of a shard with k >= 1 is never empty. */
export const nobody: MemberIdentity = { name: 'nobody', incarnation: '0000000000000000' };
