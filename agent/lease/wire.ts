/**
 * What travels between two agents on the lease port: JSON lines over mutual TLS. The follower dials and says hello; from
 * then on the primary asks and the follower grants. A primary that won't have the caller says why and hangs up.
 * Shapes and framing only. Bounds: a line of at most `MAX_LINE_BYTES`, whatever is longer or isn't what it should be ends
 * the connection.
 * Source: docs/design.md, section 4, "Lease (k >= 1)".
 */
import { z } from 'zod';
import { memberIdentitySchema } from '#core/protocol/orders.ts';

export const MAX_LINE_BYTES = 2_048;

/** From the follower, the first line. `epoch` is the one that it grants at, and no other is spoken of on this connection. */
export const leaseHelloSchema = z.object({
  protocol: z.literal(1),
  shardUid: z.string().min(1).max(100),
  from: memberIdentitySchema,
  to: memberIdentitySchema,
  epoch: z.int().min(1),
  generation: z.int().min(0),
});
export type LeaseHello = z.infer<typeof leaseHelloSchema>;

/** `n` grows with every request of one primary; it keeps when each was sent. */
const requestSchema = z.object({
  type: z.literal('request'),
  epoch: z.int().min(1),
  generation: z.int().min(0),
  n: z.int().min(1),
  serving: z.boolean(),
});
export type LeaseRequest = z.infer<typeof requestSchema>;

const refusalSchema = z.object({ type: z.literal('refused'), message: z.string().max(1_000) });
export type LeaseRefusal = z.infer<typeof refusalSchema>;

/** What the primary says. */
export const fromPrimarySchema = z.discriminatedUnion('type', [requestSchema, refusalSchema]);

/** `leaseMs` runs from the receipt of the request, on the follower's clock: it carries the L that the follower means. */
export const leaseGrantSchema = z.object({
  type: z.literal('grant'),
  epoch: z.int().min(1),
  generation: z.int().min(0),
  n: z.int().min(1),
  leaseMs: z.int().min(1).max(60_000),
});
export type LeaseGrant = z.infer<typeof leaseGrantSchema>;

export const lineOf = (message: LeaseHello | LeaseRequest | LeaseRefusal | LeaseGrant): string =>
  `${JSON.stringify(message)}\n`;

/** Undefined for whatever isn't one. */
export function parseLine<T>(schema: z.ZodType<T>, line: string): T | undefined {
  try {
    return schema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

/** Cuts what arrives into lines. Holds at most one unfinished line of `MAX_LINE_BYTES`. */
export class LineReader {
  #rest: Buffer = Buffer.alloc(0);

  /** The lines that are complete now, or undefined when one is too long: nothing after it can be made sense of. */
  push(chunk: Buffer): readonly string[] | undefined {
    let received = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const lines: string[] = [];
    for (let end = received.indexOf(0x0a); end >= 0; end = received.indexOf(0x0a)) {
      if (end > MAX_LINE_BYTES) return undefined;
      lines.push(received.toString('utf8', 0, end));
      received = received.subarray(end + 1);
    }
    if (received.length > MAX_LINE_BYTES) return undefined;
    this.#rest = Buffer.from(received);
    return lines;
  }
}
