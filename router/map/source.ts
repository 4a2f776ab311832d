/** Where maps come from. A source says a whole map each time; what may be taken over is decided in `merge.ts`. */
import type { ClusterMap } from './map.ts';

export interface MapSource {
  /** Calls `onMap` with every new map until the signal fires. Resolves once the first has been handed over. */
  start(onMap: (map: ClusterMap) => void, signal: AbortSignal): Promise<void>;
  /** Reads at once what would be read by and by. Absent where every change is heard of at once. */
  reload?(): Promise<void>;
}
