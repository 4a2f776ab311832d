/**
 * Reads a connection's first packet from a socket, saying no to encryption (a tunnel has its own). What comes behind the
 * packet is put back; the socket is paused when this resolves.
 */
import type { Socket } from 'node:net';
import { HandshakeError } from './handshake.ts';
import { readStartupPacket } from './startup-packet.ts';

const NO_ENCRYPTION = Buffer.from('N');

export function receiveStartup(socket: Socket, timeoutMs: number): Promise<ReadonlyMap<string, string>> {
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
        const read = readStartupPacket(received);
        if (read.kind === 'incomplete') return;
        if (read.kind === 'refused') return fail(read.reason);
        const rest = received.subarray(read.bytes);
        if (read.kind === 'startup') {
          return finish(() => {
            if (rest.length > 0) socket.unshift(rest);
            resolve(read.parameters);
          });
        }
        socket.write(NO_ENCRYPTION);
        received = rest;
      }
    };
    const onEnd = (): void => fail('hung up before the first packet');
    const onError = (error: Error): void => fail(error.message);
    const timer = setTimeout(() => fail(`no first packet within ${timeoutMs} ms`), timeoutMs);
    socket.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onError);
    socket.resume();
  });
}
