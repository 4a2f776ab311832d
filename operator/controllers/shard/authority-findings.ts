/**
 * What to say about the authority of a Shard: whether its record can be believed, what the next failure does, whether a
 * switchover is possible, who is kept down, what was lost. One small function for each condition. Pure.
 */
import { neededForFence } from '#core/authority/fence.ts';
import { type AuthorityRecord, isListed, isPrimary, mayAcknowledge } from '#core/authority/record.ts';
import type { ShardLastFailover } from '#crds/index.ts';
import type { Finding } from '#kube/conditions.ts';
import { fencedNames } from './fencing.ts';
import { bad, good, not } from './findings.ts';
import { identityOf, isOpenPrimary, type MemberView, primaryStatus, regionIn, statusOf } from './members.ts';
import { deliveryOf, isAhead, type WishedOrders } from './orders.ts';
import type { Snapshot } from './snapshot.ts';
import type { SwitchoverPlan } from './switchover.ts';
import { candidates } from './switchover-target.ts';
import type { Contradiction } from './trust.ts';

const ask = (snapshot: Snapshot): string =>
  `kubectl annotate shard ${snapshot.shard.metadata.name} meridian.db/switchover=<member or region>`;

export function trustFinding(
  record: AuthorityRecord | undefined,
  found: Contradiction | undefined,
): Finding | undefined {
  if (record === undefined) return undefined;
  return found === undefined
    ? good('RecordTrusted', 'Consistent', 'the record of authority agrees with what the members have promised')
    : bad('RecordTrusted', found.reason, found.message);
}

/** Whether the members work by what they are told. */
export function ordersFinding({ record, views, leaderTerm }: Snapshot, wished: readonly WishedOrders[]): Finding {
  const type = 'OrdersTaken';
  const outranked = wished.filter((orders) => deliveryOf(orders, leaderTerm) === 'outranked');
  if (outranked.length > 0)
    return bad(
      type,
      'HigherTerm',
      `${outranked.map(({ view }) => view.name).join(', ')} took orders of a higher leader term than ours (${leaderTerm}): another operator leads, or its Lease was made anew`,
    );
  const ahead = record === undefined ? [] : views.filter((view) => isAhead(view, record));
  if (ahead.length > 0)
    return not(
      type,
      'EpochPromised',
      `${ahead.map(({ name }) => name).join(', ')} has promised an epoch above ${record?.authority.epoch}, and takes no orders before that is decided`,
    );
  return good(type, 'Taken', 'no member refuses orders');
}

/** What happens if the primary is lost now: said while it can still be helped. */
export function failoverFinding(snapshot: Snapshot, record: AuthorityRecord | undefined): Finding | undefined {
  const type = 'FailoverPossible';
  if (record === undefined || record.authority.state === 'Initialising') return undefined;
  const { shard, views } = snapshot;
  const { member } = record.authority;
  const fenced = fencedNames(shard);
  if (fenced.has(member)) return not(type, 'Fenced', `${member} is kept down on purpose: nobody takes over from it`);
  const answering = record.membership.members.filter(
    (listed) =>
      !isPrimary(record, listed) &&
      views.some((view) => view.name === listed.name && identityOf(view)?.incarnation === listed.incarnation),
  );
  const needed = neededForFence(record);
  if (answering.length < needed) {
    const missing = record.membership.members
      .filter((listed) => !isPrimary(record, listed) && !answering.includes(listed))
      .map(({ name }) => name);
    return bad(
      type,
      record.membership.members.length === 1 ? 'NobodyElse' : 'TooFewAnswer',
      record.membership.members.length === 1
        ? `${member} is the only member: nobody could take over from it`
        : `it takes ${needed} of the other members to take over from ${member}, and ${answering.length} answer; missing: ${missing.join(', ')}`,
    );
  }
  const able = answering.filter(({ name }) => {
    const view = views.find((candidate) => candidate.name === name);
    return view?.promotable === true && view.declared && !fenced.has(name) && statusOf(view)?.diverged === undefined;
  });
  const names = able.map(({ name }) => name).join(', ');
  if (able.length === 0) return bad(type, 'NobodyPromotable', `no other member may take over from ${member}`);
  const wait = waitsAfterwards(snapshot, record);
  if (shard.spec.failover.mode === 'Manual')
    return not(
      type,
      'Manual',
      `failover.mode is Manual: when ${member} is lost, ${names} could take over${wait}, once somebody says so: ${ask(snapshot)}`,
    );
  return wait === ''
    ? good(type, 'Possible', `${names} could take over from ${member}`)
    : { ...good(type, 'ThenWritesWait', `${names} could take over from ${member}${wait}`), warning: true };
}

/** After a failover one member less is there: whether the new primary still gets its acknowledgements (trap A15). */
function waitsAfterwards({ views, shard }: Snapshot, record: AuthorityRecord): string {
  const k = record.membership.acknowledgements;
  if (k === 0) return '';
  const answering = views.filter((view) => {
    const identity = identityOf(view);
    return identity !== undefined && isListed(record, identity) && !isPrimary(record, identity);
  });
  const enough = answering.some((view) => {
    const identity = identityOf(view);
    if (identity === undefined || !view.promotable) return false;
    const after: AuthorityRecord = {
      ...record,
      authority: {
        ...record.authority,
        member: view.name,
        incarnation: identity.incarnation,
        region: view.region ?? '',
      },
    };
    const others = answering.filter(
      (other) =>
        other !== view &&
        mayAcknowledge(after, { name: other.name, incarnation: '' }, shard.spec.durability.scope, regionIn(views)),
    );
    return others.length >= k;
  });
  return enough ? '' : `, but writes would then wait until one more follower is back (acknowledgements: ${k})`;
}

/** How long the refusal of a request stands in the condition, unless something else is asked for or authority moves. */
const refusalShownMs = 900_000;

export function switchoverFinding(
  snapshot: Snapshot,
  record: AuthorityRecord | undefined,
  plan: SwitchoverPlan | undefined,
  now: Date,
): Finding | undefined {
  const type = 'SwitchoverPossible';
  if (record === undefined || plan === undefined || record.authority.state === 'Initialising') return undefined;
  const { journal, intent, refusal, waitsFor } = plan;
  if (record.authority.state === 'Stopping')
    return good(
      type,
      'UnderWay',
      `${record.authority.member} hands over to ${record.authority.target?.name ?? 'another member'}`,
    );
  if (plan.isUnderWay) return good(type, 'UnderWay', `${intent?.why ?? 'a switchover'}: handing over`);
  if (refusal !== undefined) return bad(type, refusal.reason, `${intent?.why ?? 'a switchover'}: ${refusal.message}`);
  if (waitsFor !== undefined) return good(type, 'Waiting', `${intent?.why ?? 'a switchover'}: ${waitsFor}`);
  const isShown =
    journal?.outcome === 'Refused' &&
    journal.epoch === record.authority.epoch &&
    now.getTime() - Date.parse(journal.at) < refusalShownMs;
  if (isShown) return bad(type, journal.refusal ?? 'Refused', `${journal.message ?? ''} (${journal.at})`);
  if (!isOpenPrimary(record, primaryStatus(record, snapshot.views)))
    return not(type, 'PrimaryNotOpen', `${record.authority.member} is not open: there is nothing to hand over`);
  const { able, refusals } = candidates(snapshot.views, { snapshot, record, mustBeUpToDate: false });
  if (able.length > 0)
    return good(type, 'Possible', `${able.map(({ member }) => member.name).join(', ')} could take over at any time`);
  const why = refusals.map(({ message }) => message).join('; ');
  return not(type, refusals[0]?.reason ?? 'NobodyElse', why === '' ? 'the shard has no other member' : why);
}

export function fencedFinding({ shard, views }: Snapshot): Finding | undefined {
  const names = [...fencedNames(shard)];
  const type = 'Fenced';
  if (names.length === 0) {
    const wasThere = shard.status?.conditions?.some((condition) => condition.type === type) === true;
    return wasThere ? not(type, 'NotAsked', 'no member is kept down') : undefined;
  }
  const unknown = names.filter((name) => !views.some((view) => view.name === name));
  if (unknown.length > 0)
    return bad(
      type,
      'UnknownMember',
      `the annotation meridian.db/fence names ${unknown.join(', ')}, which is no member of this shard`,
    );
  const down = names.filter((name) => {
    const status = statusOf(views.find((view) => view.name === name));
    return status?.phase === 'Holding' && status.postgres?.running !== true;
  });
  const waiting = names.filter((name) => !down.includes(name));
  return waiting.length === 0
    ? { ...good(type, 'Down', `Postgres of ${names.join(', ')} is down, as meridian.db/fence asks`), warning: true }
    : not(type, 'Stopping', `${waiting.join(', ')} is asked to stop (meridian.db/fence), and hasn't said that it has`);
}

/** Members whose data has left the primary's history, with what is known of it. */
export function divergedFinding(views: readonly MemberView[]): Finding {
  const type = 'Diverged';
  const sentences = views.flatMap((view) => {
    const diverged = statusOf(view)?.diverged;
    if (diverged === undefined) return [];
    const { forkLsn, lsn, transactions, keptIn, waiting } = diverged;
    const counted = transactions === undefined ? 'not counted yet' : `${transactions} transactions`;
    const kept = keptIn === undefined ? '' : `, their log is kept in ${keptIn}`;
    return [
      `${view.name} has log from ${forkLsn} to ${lsn} that its primary doesn't (${counted}${kept})` +
        (waiting ? ', and waits for its turn to be rewound' : ', and is being rewound'),
    ];
  });
  return sentences.length === 0
    ? not(type, 'None', 'every member that answers has the history of its primary')
    : { ...good(type, 'Diverged', sentences.join('; ')), warning: true };
}

/** What the last failover cost. */
export function lossFinding(last: ShardLastFailover | undefined): Finding | undefined {
  const type = 'NothingLost';
  if (last === undefined) return undefined;
  const { from, to, epoch, exact, transactions, lostFrom, lostTo, keptIn } = last;
  const event = `the failover from ${from} to ${to} (epoch ${epoch}, ${last.at})`;
  const range = lostFrom === undefined || lostTo === undefined ? '' : ` from ${lostFrom} to ${lostTo}`;
  const kept = keptIn === undefined ? '' : `; their log is kept in ${keptIn} on ${from}`;
  if (last.acknowledgements > 0)
    return good(
      type,
      'Acknowledged',
      `${event} lost no acknowledged commit` +
        (transactions === undefined || transactions === 0
          ? ''
          : `; ${transactions} transactions${range} had not been acknowledged, and are not in the shard${kept}`),
    );
  if (!exact)
    return {
      type,
      status: 'Unknown',
      reason: 'Interval',
      message: `${event} may have lost the commits${range === '' ? ` after ${lostFrom ?? 'its beginning'}` : range}: acknowledgements were 0. How many is known once ${from} is back with its volume`,
      warning: true,
    };
  if ((transactions ?? 0) === 0)
    return good(type, 'NothingLost', `${event} lost nothing: ${from} had no commit that ${to} had not`);
  return bad(type, 'Lost', `${event} lost ${transactions} transactions${range}${kept}`);
}
