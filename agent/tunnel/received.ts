/**
 * Reads the beginning of what comes on a socket until it makes sense, bounded in time: for the handshake of a tunnel and for
 * the first packet of a Postgres connection. What comes behind it is put back; the socket is paused when this resolves.
 */
import type { Socket } from 'node:net';

export class HandshakeError extends Error {
  override readonly name = 'HandshakeError';
}

export type Taken<Value> =
  /** More has to come. */
  | { readonly kind: 'more' }
  /** These bytes are dealt with; go on with the rest. */
  | { readonly kind: 'skip'; readonly bytes: number }
  | { readonly kind: 'value'; readonly value: Value; readonly bytes: number }
  | { readonly kind: 'refused'; readonly reason: string };

/** `take` sees all that has come and isn't dealt with. @throws HandshakeError */
export function receive<Value>(
  socket: Socket,
  timeoutMs: number,
  what: string,
  take: (received: Buffer) => Taken<Value>,
): Promise<Value> {
  return new Promise((resolve, reject) => {
    let received: Buffer = Buffer.alloc(0);
    const finish = (outcome: () => void): void => {
      clearTimeout(timer);
      socket.off('data', onData).off('end', onEnd).off('close', onEnd).off('error', onError);
      socket.pause();
      outcome();
    };
    const fail = (message: string): void => finish(() => reject(new HandshakeError(message)));
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      for (;;) {
        const taken = take(received);
        if (taken.kind === 'more') return undefined;
        if (taken.kind === 'refused') return fail(taken.reason);
        const rest = received.subarray(taken.bytes);
        if (taken.kind === 'value') {
          return finish(() => {
            if (rest.length > 0) socket.unshift(rest);
            resolve(taken.value);
          });
        }
        received = rest;
      }
    };
    const onEnd = (): void => fail(`the other side hung up before ${what}`);
    const onError = (error: Error): void => fail(error.message);
    const timer = setTimeout(() => fail(`no ${what} within ${timeoutMs} ms`), timeoutMs);
    socket.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onError);
    socket.resume();
  });
}
