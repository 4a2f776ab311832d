/** What a round of a Shard can do. Data only; `act.ts` does it. Each may be repeated, and may be the last before a crash. */
import type { AuthorityRecord } from '#core/authority/record.ts';
import type { MemberIdentity } from '#core/identity.ts';
import type { ShardSwitchover } from '#crds/index.ts';
import type { NetworkPolicy, PodDisruptionBudget } from '#kube/kinds.ts';
import type { NotedPosition } from './memory.ts';
import type { OrdersWish } from './orders.ts';

export type Action =
  | { readonly kind: 'ApplyBudget'; readonly object: PodDisruptionBudget }
  | { readonly kind: 'ApplyPolicy'; readonly object: NetworkPolicy }
  /** A compare-and-swap of the whole record; nothing that depends on it is in the same round. */
  | {
      readonly kind: 'Record';
      readonly record: AuthorityRecord;
      readonly systemIdentifier?: string | undefined;
      /** For the log. */
      readonly why: string;
    }
  | {
      readonly kind: 'SendOrders';
      readonly member: string;
      readonly address: string;
      readonly orders: OrdersWish;
      /** What the member last took, for the next number. */
      readonly taken: { readonly leaderTerm: number; readonly sequence: number } | undefined;
    }
  /** Asks the takeover service to move authority; the journal is written first. */
  | {
      readonly kind: 'Handover';
      readonly target: MemberIdentity;
      readonly why: string;
      readonly journal: ShardSwitchover;
    }
  /** Takes an annotation off, if it still has this value. */
  | { readonly kind: 'ClearAnnotation'; readonly annotation: string; readonly value: string }
  | { readonly kind: 'NotePosition'; readonly noted: NotedPosition | undefined }
  | { readonly kind: 'ReplacePod'; readonly name: string; readonly uid: string }
  | { readonly kind: 'DeleteClaim'; readonly name: string; readonly uid: string };
