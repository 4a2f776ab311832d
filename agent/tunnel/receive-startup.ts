/** Reads a connection's first packet from a socket, saying no to encryption: a tunnel has its own. */
import type { Socket } from 'node:net';
import { receive } from './received.ts';
import { readStartupPacket } from './startup-packet.ts';

const NO_ENCRYPTION = Buffer.from('N');

export function receiveStartup(socket: Socket, timeoutMs: number): Promise<ReadonlyMap<string, string>> {
  return receive(socket, timeoutMs, 'first packet', (received) => {
    const read = readStartupPacket(received);
    switch (read.kind) {
      case 'incomplete':
        return { kind: 'more' };
      case 'refused':
        return read;
      case 'startup':
        return { kind: 'value', value: read.parameters, bytes: read.bytes };
      case 'encryption':
        socket.write(NO_ENCRYPTION);
        return { kind: 'skip', bytes: read.bytes };
    }
  });
}
