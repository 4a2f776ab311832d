/**
 * Which shard a new tenant goes to: pure, from a description of the shards as they are known now.
 * Recording the choice (the compare-and-swap on `Tenant.status.authority`) belongs to the tenant controller, and moving a tenant
 * that is already placed to TenantMove: nothing here is asked again after the first answer.
 *
 * Invariants: a refusal always has a reason and a message that names what to change; the answer doesn't depend on the order in
 * which shards are listed; a tenant with allowed regions never goes to a shard whose regions aren't all known and all allowed.
 */

/**
 * `ready`: serves with the schema in place. `starting`: declared a short while ago and on the way there.
 * `unavailable`: neither for too long; no tenant is sent there unless its object names the shard.
 */
export type ShardCondition = 'ready' | 'starting' | 'unavailable';

/** What placement knows about one Shard of any keyspace in the namespace. */
export interface ShardCandidate {
  readonly name: string;
  readonly keyspace: string;
  readonly condition: ShardCondition;
  /** Its object is being deleted: it keeps the tenants it has and gets no more. */
  readonly deleting: boolean;
  readonly primaryRegion: string;
  /** Regions in which it has a RegionalReplica, whether or not instances run there. */
  readonly replicaRegions: readonly string[];
  /** Tenants whose authority lies here. */
  readonly tenants: number;
  /** Bytes of all its tenants; undefined while nobody has measured. */
  readonly sizeBytes: number | undefined;
}

export interface PlacementWish {
  readonly keyspace: string;
  /** `Tenant.spec.shard`: then only this one will do. */
  readonly shard: string | undefined;
  /** `Tenant.spec.allowedRegions`: undefined means everywhere. */
  readonly allowedRegions: readonly string[] | undefined;
}

export type PlacementRefusal =
  | 'ShardNotFound'
  | 'ShardOfOtherKeyspace'
  | 'ShardDeleting'
  | 'ShardNotReady'
  | 'ResidencyForbids'
  | 'ResidencyUnknown'
  | 'NoShards'
  | 'NoShardFits';

export type Placement =
  | { readonly kind: 'placed'; readonly shard: string; readonly message: string }
  | { readonly kind: 'refused'; readonly reason: PlacementRefusal; readonly message: string };

/** Why a shard will not do; undefined when it will. */
interface Obstacle {
  readonly reason: PlacementRefusal;
  readonly message: string;
}

const refused = (reason: PlacementRefusal, message: string): Placement => ({ kind: 'refused', reason, message });

/** The regions in which a shard's rows lie or will lie: its replicas', and the one its primary is wanted in. */
export function regionsOfShard(shard: Pick<ShardCandidate, 'primaryRegion' | 'replicaRegions'>): readonly string[] {
  return [...new Set([shard.primaryRegion, ...shard.replicaRegions])].toSorted();
}

/**
 * Whether the rows of a tenant may lie on a shard. A shard without any RegionalReplica says nothing yet about where its rows will
 * lie: it is refused until that is known, since objects may arrive in any order.
 */
export function residencyObstacle(
  shard: Pick<ShardCandidate, 'name' | 'primaryRegion' | 'replicaRegions'>,
  allowedRegions: readonly string[] | undefined,
): Obstacle | undefined {
  if (allowedRegions === undefined) return undefined;
  const forbidden = regionsOfShard(shard).filter((region) => !allowedRegions.includes(region));
  if (forbidden.length > 0) {
    return {
      reason: 'ResidencyForbids',
      message: `shard ${shard.name} keeps rows in ${forbidden.join(', ')}; allowedRegions are ${listed(allowedRegions)}`,
    };
  }
  if (shard.replicaRegions.length === 0) {
    return {
      reason: 'ResidencyUnknown',
      message: `shard ${shard.name} has no RegionalReplica yet, so the regions that will keep its rows aren't known`,
    };
  }
  return undefined;
}

function deletionObstacle(shard: ShardCandidate): Obstacle | undefined {
  return shard.deleting
    ? { reason: 'ShardDeleting', message: `shard ${shard.name} is being deleted and takes no new tenants` }
    : undefined;
}

function availabilityObstacle(shard: ShardCandidate): Obstacle | undefined {
  return shard.condition === 'unavailable'
    ? { reason: 'NoShardFits', message: `shard ${shard.name} isn't available` }
    : undefined;
}

/** Fewest tenants first, then the smallest where both are measured, then by name. */
export function compareLoad(a: ShardCandidate, b: ShardCandidate): number {
  if (a.tenants !== b.tenants) return a.tenants - b.tenants;
  const [aBytes, bBytes] = [a.sizeBytes, b.sizeBytes];
  if (aBytes !== bBytes) {
    // Comparing a measured shard with an unmeasured one by name alone would not be transitive: the unmeasured come last.
    if (aBytes === undefined) return 1;
    if (bBytes === undefined) return -1;
    return aBytes - bBytes;
  }
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

/**
 * Chooses the shard of a tenant that has none yet. Waits until the wanted shard, or any that fits, is ready: nothing could be served
 * before, and by then whatever was declared together with the tenant is known, so the outcome doesn't hang on the order.
 */
export function placeTenant(wish: PlacementWish, shards: readonly ShardCandidate[]): Placement {
  return wish.shard === undefined ? placeAnywhere(wish, shards) : placeWhereWanted(wish, wish.shard, shards);
}

function placeWhereWanted(wish: PlacementWish, wanted: string, shards: readonly ShardCandidate[]): Placement {
  const shard = shards.find((candidate) => candidate.name === wanted);
  if (shard === undefined) return refused('ShardNotFound', `spec.shard names ${wanted}, and there is no such Shard`);
  if (shard.keyspace !== wish.keyspace) {
    return refused(
      'ShardOfOtherKeyspace',
      `spec.shard names ${wanted}, a shard of keyspace ${shard.keyspace}; the tenant is in keyspace ${wish.keyspace}`,
    );
  }
  const obstacle = deletionObstacle(shard) ?? residencyObstacle(shard, wish.allowedRegions);
  if (obstacle !== undefined) return refused(obstacle.reason, obstacle.message);
  if (shard.condition !== 'ready')
    return refused('ShardNotReady', `shard ${wanted}, which spec.shard names, isn't ready yet`);
  return { kind: 'placed', shard: wanted, message: `on shard ${wanted}, as spec.shard says` };
}

function placeAnywhere(wish: PlacementWish, shards: readonly ShardCandidate[]): Placement {
  const ofKeyspace = shards
    .filter((shard) => shard.keyspace === wish.keyspace)
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  if (ofKeyspace.length === 0) return refused('NoShards', `keyspace ${wish.keyspace} has no Shard yet`);
  const judged = ofKeyspace.map((shard) => ({
    shard,
    obstacle: deletionObstacle(shard) ?? residencyObstacle(shard, wish.allowedRegions) ?? availabilityObstacle(shard),
  }));
  const fitting = judged.filter(({ obstacle }) => obstacle === undefined).map(({ shard }) => shard);
  const best = fitting.toSorted(compareLoad)[0];
  if (best !== undefined) {
    if (!fitting.some(({ condition }) => condition === 'ready'))
      return refused('ShardNotReady', `no shard of keyspace ${wish.keyspace} that fits is ready yet`);
    return { kind: 'placed', shard: best.name, message: `on shard ${best.name}, the least loaded that fits` };
  }
  return refused(
    'NoShardFits',
    `no shard of keyspace ${wish.keyspace} fits: ${bounded(judged.flatMap(({ obstacle }) => (obstacle === undefined ? [] : [obstacle.message])))}`,
  );
}

/**
 * Counts beforehand, for each shard, the tenants that are not placed yet and can only go there: placing the others without them
 * would spread tenants differently for each order in which they are looked at.
 */
export function withTenantsToCome(
  shards: readonly ShardCandidate[],
  unplaced: readonly PlacementWish[],
): readonly ShardCandidate[] {
  const toCome = new Map<string, number>();
  for (const wish of unplaced) {
    const possible = shards.filter(
      (shard) =>
        shard.keyspace === wish.keyspace &&
        (wish.shard === undefined || wish.shard === shard.name) &&
        deletionObstacle(shard) === undefined &&
        residencyObstacle(shard, wish.allowedRegions) === undefined &&
        (wish.shard !== undefined || availabilityObstacle(shard) === undefined),
    );
    const only = possible.length === 1 ? possible[0] : undefined;
    if (only !== undefined) toCome.set(only.name, (toCome.get(only.name) ?? 0) + 1);
  }
  return shards.map((shard) => ({ ...shard, tenants: shard.tenants + (toCome.get(shard.name) ?? 0) }));
}

const listed = (regions: readonly string[]): string => (regions.length === 0 ? 'none' : regions.join(', '));

/** Condition messages are read by people and bounded by the API: the first few obstacles tell enough. */
function bounded(messages: readonly string[]): string {
  const shown = messages.slice(0, 5);
  const rest = messages.length - shown.length;
  return rest === 0 ? shown.join('; ') : `${shown.join('; ')}; and ${rest} more`;
}
