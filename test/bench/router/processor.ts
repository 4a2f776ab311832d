/** Processor time and memory of processes, from proc(5). */
import { readFile } from 'node:fs/promises';

/** USER_HZ, 100 on every Linux that is met today. */
export const microsPerTick = 10_000;

/** utime and stime of a line of `/proc/PID/stat`; `reaped` adds those of children that have ended. */
export function ticksOf(stat: string, reaped = false): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const own = Number(fields[11]) + Number(fields[12]);
  return reaped ? own + Number(fields[13]) + Number(fields[14]) : own;
}

export const ownTicks = async (processId: number): Promise<number> =>
  ticksOf(await readFile(`/proc/${processId}/stat`, 'utf8'));

/** Resident memory in bytes. */
export async function residentBytes(processId: number): Promise<number> {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${processId}/status`, 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}
