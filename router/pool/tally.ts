/** What a worker's pools have done since it began, in the words of PgBouncer's SHOW STATS; times in microseconds. */
export class Tally {
  assignments = 0;
  waitMicros = 0;
  /** That connections were lent. */
  lentMicros = 0;
  /** That members worked on statements. */
  queryMicros = 0;
  closed = 0;
  /** Of connections that are closed. */
  lifetimeMicros = 0;
  /** Statements prepared at members, over connections that are closed. */
  parses = 0;
}
