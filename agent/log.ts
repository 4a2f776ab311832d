/** Structured logs, one line per transition, the member's name on every line. */
import { type Logger, pino } from 'pino';

export type { Logger };

export function createLogger(level: string, member: string): Logger {
  return pino({ level, base: { member }, timestamp: pino.stdTimeFunctions.isoTime, messageKey: 'message' });
}
