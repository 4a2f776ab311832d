/**
 * The clock of leases: time since the machine's boot, which goes on while it is suspended (CLOCK_BOOTTIME), unlike
 * `performance.now()`. Read from /proc/uptime, whose resolution is 10 ms: a reading is never ahead of the true time.
 * Every process of one machine reads the same clock; that of another machine has nothing to do with it.
 * Source: proc(5), "/proc/uptime"; docs/design-traps.md, A19.
 */
import { openSync, readSync } from 'node:fs';

let descriptor: number | undefined;
const buffer = Buffer.alloc(64);

/** Milliseconds since boot, a multiple of 10. @throws where there is no /proc. */
export function bootTimeMs(): number {
  descriptor ??= openSync('/proc/uptime', 'r');
  const bytes = readSync(descriptor, buffer, 0, buffer.length, 0);
  return Math.round(Number.parseFloat(buffer.toString('latin1', 0, bytes)) * 1000);
}

/** How coarse a reading is: what a holder of a lease takes off, and a giver adds. */
export const bootTimeResolutionMs = 10;
