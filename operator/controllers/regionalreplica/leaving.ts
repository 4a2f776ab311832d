/**
 * How a RegionalReplica that is being deleted makes sure that none of its members is counted any more: an annotation on its
 * Shard, which is written before its finalizer goes.
 * That the record lists none of them when it is read says nothing of a swap that is under way, decided when the object was
 * still there. The annotation changes the Shard's resourceVersion, so that every older swap fails (docs/design.md, section 4),
 * and whoever decides after it sees it with the record itself, however late the deletion reaches its cache.
 */
import type { KubeObject, Stored } from '#kube/objects.ts';

/** One for each name, holding the UID: a RegionalReplica made again under that name is another one. */
export const leavingAnnotation = (regionalReplica: string): string => `leaving.meridian.db/${regionalReplica}`;

export const hasAnnounced = (shard: KubeObject, { metadata }: KubeObject): boolean =>
  metadata.uid !== undefined && shard.metadata.annotations?.[leavingAnnotation(metadata.name)] === metadata.uid;

/** A merge patch: refused with a conflict where the Shard has been made anew. */
export const announcement = (shardUid: string, { metadata }: Stored<KubeObject>): object => ({
  metadata: { uid: shardUid, annotations: { [leavingAnnotation(metadata.name)]: metadata.uid } },
});
