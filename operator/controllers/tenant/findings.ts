/**
 * The conditions of a Tenant that are said of any placed one. Pure. Ready and Owned are made where they are decided.
 */
import { residencyObstacle } from '#core/placement/placement.ts';
import type { TenantAuthority } from '#crds/index.ts';
import { type Finding, findCondition } from '#kube/conditions.ts';
import type { Home, TenantSnapshot } from './snapshot.ts';

export const good = (type: string, reason: string, message: string): Finding => ({
  type,
  status: 'True',
  reason,
  message,
});
export const bad = (type: string, reason: string, message: string, warning = false): Finding => ({
  type,
  status: 'False',
  reason,
  message,
  ...(warning ? { warning } : {}),
});

export const placedFinding = ({ shard, epoch }: TenantAuthority): Finding =>
  good('Placed', 'Placed', `on shard ${shard} since epoch ${epoch}`);

/** Said where there is something to say, or was: tenants are many, and each condition is kept for each of them. */
const spare = (tenant: TenantSnapshot['tenant'], finding: Finding, isWorthSaying: boolean): readonly Finding[] =>
  isWorthSaying || findCondition(tenant.status?.conditions, finding.type) !== undefined ? [finding] : [];

export function moveNeeded(tenant: TenantSnapshot['tenant'], authority: TenantAuthority): readonly Finding[] {
  const type = 'MoveNeeded';
  const wanted = tenant.spec.shard;
  if (wanted === undefined || wanted === authority.shard)
    return spare(tenant, bad(type, 'InPlace', 'it is where the spec wants it'), false);
  const message = `it is on shard ${authority.shard} and spec.shard wants ${wanted}: moves come with TenantMove; nothing changes by itself`;
  return [good(type, 'OtherShardWanted', message)];
}

export function residencyHeld(tenant: TenantSnapshot['tenant'], home: Home | undefined): readonly Finding[] {
  const type = 'ResidencyHeld';
  const { allowedRegions } = tenant.spec;
  if (allowedRegions === undefined) return spare(tenant, good(type, 'Unrestricted', 'every region is allowed'), false);
  if (home === undefined || home.state === 'absent')
    return [{ type, status: 'Unknown', reason: 'ShardNotFound', message: 'its shard is gone, so nothing is known' }];
  const obstacle = residencyObstacle({ ...home, name: home.shard }, allowedRegions);
  return obstacle?.reason === 'ResidencyForbids'
    ? [bad(type, obstacle.reason, `${obstacle.message}: take the RegionalReplica away, or move the tenant`, true)]
    : [good(type, 'Held', `every region of shard ${home.shard} is allowed`)];
}
