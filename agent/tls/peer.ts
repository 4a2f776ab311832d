/**
 * Who is at the other end of a TLS connection: the URI in its certificate, within our own keyspace. The chain has been
 * verified by TLS itself; host names are never looked at, since members are dialled by address.
 */
import type { TLSSocket } from 'node:tls';
import { identityOfSubjectAltName, type PeerIdentity } from '#core/identity.ts';

export interface Place {
  readonly namespace: string;
  readonly keyspace: string;
}

/** Undefined for a certificate of another keyspace, or none of ours; and for an application's, which has no business at a member. */
export function peerOf(socket: TLSSocket, place: Place): PeerIdentity | undefined {
  if (!socket.authorized) return undefined;
  const identity = identityOfSubjectAltName(socket.getPeerCertificate().subjectaltname);
  if (identity === undefined || identity.kind === 'role') return undefined;
  return identity.namespace === place.namespace && identity.keyspace === place.keyspace ? identity : undefined;
}

/** For `tls.connect`: the URI takes the place of the host name, and is checked by the caller with `peerOf`. */
export const noHostNameCheck = (): undefined => undefined;
