/**
 * Members that people keep down: the annotation `meridian.db/fence` on the Shard. Pure.
 * A fenced member is ordered to hold, whatever it is; a fenced primary isn't failed over, since that is what was asked for.
 */
import { annotations } from '#core/names.ts';
import type { KubeObject } from '#kube/objects.ts';

/** Names as they are written; what isn't a member is named in a condition. */
export function fencedNames(shard: KubeObject): ReadonlySet<string> {
  const written = shard.metadata.annotations?.[annotations.fence] ?? '';
  return new Set(
    written
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== ''),
  );
}
