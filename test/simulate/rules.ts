/**
 * The decisions that the simulated programs work by: by default the very functions that operator and agent use. A planted bug
 * is another set of these, made in `plants.ts`; nothing in `core/` knows of it.
 */
import { decideOrders, isWithinPromise } from '#agent/orders/decide.ts';
import type { PromiseRecord } from '#agent/promise/record.ts';
import { deliverableMs, expiryOf, grantRemainingMs, leaseSettings } from '#core/authority/lease.ts';
import {
  changedMembership,
  isSafeToRecord,
  nextChange,
  recordGoesFirst,
  settingsDuring,
} from '#core/authority/membership-change.ts';
import { whyNotStart, whyShut } from '#core/authority/opening.ts';
import { decideFence, mayGrant, mayLead, mayStream } from '#core/authority/promise.ts';
import { mayRewind, rejoinOf } from '#core/authority/rejoin.ts';
import { suspicionOf } from '#core/authority/suspicion.ts';
import { decideTakeover } from '#core/authority/takeover.ts';
import type { Orders } from '#core/protocol/orders.ts';

export const realRules = {
  changedMembership,
  decideFence,
  decideOrders,
  decideTakeover,
  deliverableMs,
  expiryOf,
  grantRemainingMs,
  isSafeToRecord,
  isWithinPromise,
  leaseSettings,
  mayGrant,
  mayLead,
  mayRewind,
  mayStream,
  nextChange,
  recordGoesFirst,
  rejoinOf,
  settingsDuring,
  suspicionOf,
  whyNotStart,
  whyShut,
  /** What a restarted agent finds of its promise: all of it. */
  promiseOnDisk: (promise: PromiseRecord, _orders: Orders | undefined): PromiseRecord => promise,
  /** The incarnation of a volume: another one for every volume. */
  incarnationOf: (name: string, volume: number): string => `${name}${volume}`,
  /** The version that a PUT carries: that of the GET which the attempt began with. */
  versionForPut: (attempted: number, _newest: number): number => attempted,
};

export type Rules = typeof realRules;
