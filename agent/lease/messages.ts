/**
 * What the agent's main thread and its lease thread say to each other, and the wishes that both know. All of it survives
 * a structured clone.
 */
import type { ApiServerPlace } from '#agent/api-server.ts';
import type { Credentials } from '#agent/tls/credentials.ts';
import type { Place } from '#agent/tls/peer.ts';
import type { MemberIdentity } from '#core/identity.ts';
import type { Orders } from '#core/protocol/orders.ts';

/** Of a primary: whose grants it needs, and who may dial it at all. */
export interface ServeWish {
  readonly shardUid: string;
  readonly epoch: number;
  readonly generation: number;
  readonly lease: Orders['lease'];
  readonly peers: readonly MemberIdentity[];
}

/** Of a follower: the one member that it grants to, as its promise says. */
export interface FollowWish {
  readonly shardUid: string;
  readonly epoch: number;
  readonly generation: number;
  readonly source: MemberIdentity & { readonly address: string; readonly port?: number };
}

/** Where the Kubernetes Lease of a primary without acknowledging followers is. */
export interface KubernetesLeasePlace extends ApiServerPlace {
  readonly namespace: string;
  readonly name: string;
}

/** Given to the thread at its start. */
export interface LeaseThreadOptions {
  readonly port: number;
  readonly host: string | undefined;
  readonly place: Place;
  readonly credentials: Credentials;
  readonly identity: MemberIdentity;
  /** Descriptor of the dead man's handle; undefined where there is none. */
  readonly handle: number | undefined;
  readonly kubernetes: KubernetesLeasePlace | undefined;
  readonly memory: SharedArrayBuffer;
}

export type Wish =
  | { readonly kind: 'credentials'; readonly credentials: Credentials }
  | { readonly kind: 'identity'; readonly identity: MemberIdentity }
  | { readonly kind: 'serve'; readonly wish: ServeWish }
  | { readonly kind: 'follow'; readonly wish: FollowWish }
  | { readonly kind: 'stop' }
  | { readonly kind: 'arm'; readonly postmasterPid: number }
  | { readonly kind: 'postmaster'; readonly postmasterPid: number }
  | { readonly kind: 'disarm' }
  | { readonly kind: 'grants' }
  | { readonly kind: 'close' };

/** Of a primary: the newest grant that it has of one follower. */
export interface GrantSeen {
  /** `replicationName` */
  readonly from: string;
  /** Since the request that it answers was sent. */
  readonly ageMs: number;
  /** Its margin taken off; 0 where it has run out. */
  readonly remainingMs: number;
}

export type ToThread = Wish & { readonly id: number };

export type FromThread =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'done'; readonly id: number; readonly problem?: string }
  /** Followed by `done`. */
  | { readonly kind: 'grants'; readonly grants: readonly GrantSeen[] }
  | { readonly kind: 'lost'; readonly reason: string }
  | {
      readonly kind: 'log';
      readonly level: 'info' | 'warn' | 'error';
      readonly details: object;
      readonly message: string;
    };

/** What the thread's parts report to: lines for people, handed to the main thread's log. */
export interface LeaseLog {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}
