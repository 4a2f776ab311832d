/**
 * The number that orders to one member carry within a leader's term (design trap A22).
 * It must grow from order to order, also across restarts of the operator within one term, and over an order of ours that is
 * still on its way when the next is sent. So it is the greatest of: one more than the last from here, one more than what the
 * member reports for this term, and the wall clock in milliseconds. The clock alone isn't trusted (it may be put back), nor
 * is the report (an order that was sent and not yet taken isn't in it).
 */
export class OrderSequence {
  readonly #last = new Map<string, number>();

  /** @param reported The term and number that the member last took; undefined when it never took any. */
  next(
    member: string,
    term: number,
    reported: { readonly leaderTerm: number; readonly sequence: number } | undefined,
    nowMs: number,
  ): number {
    const key = `${term}/${member}`;
    const next = Math.max(
      (this.#last.get(key) ?? -1) + 1,
      reported?.leaderTerm === term ? reported.sequence + 1 : 0,
      nowMs,
    );
    this.#last.set(key, next);
    return next;
  }
}
