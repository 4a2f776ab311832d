/** Regions from which all authority is to move: no primary is placed there while another region can have it. Pure. */
import { regions } from '#kube/meridian.ts';
import type { Cache } from '../../runtime/controller.ts';

export const drainedRegions = (cache: Cache, namespace: string | undefined): ReadonlySet<string> =>
  new Set(
    cache
      .list(regions, { namespace })
      .filter(({ spec }) => spec.drain)
      .map(({ metadata }) => metadata.name),
  );
