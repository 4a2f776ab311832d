/**
 * A client that says exactly the bytes it is told to: for messages that no driver would send, in orders that none would choose.
 * Logs in like any other (TLS, SCRAM-SHA-256); after that it only frames what comes.
 */
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { FrameSplitter } from '#router/wire/frames.ts';
import { readErrorFields } from '#router/wire/server-messages.ts';
import { sslRequest, startupPacket } from '#router/wire/startup.ts';
import { message } from '#router/wire/writer.ts';

export interface RawMessage {
  /** The type byte as a letter. */
  readonly type: string;
  readonly frame: Buffer;
}

export class RawClient {
  readonly socket: Socket;
  readonly messages: RawMessage[] = [];
  readonly #splitter = new FrameSplitter(1 << 30);
  #wake: () => void = () => undefined;
  isClosed = false;
  processId = 0;
  secret = 0;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#splitter.push(chunk, (type, frame) => this.messages.push({ type: String.fromCharCode(type), frame }));
      this.#wake();
    });
    socket.on('close', () => {
      this.isClosed = true;
      this.#wake();
    });
    socket.on('error', () => undefined);
  }

  static async tcp(port: number): Promise<Socket> {
    const socket = connectTcp({ host: 'localhost', port, noDelay: true });
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    socket.on('error', () => undefined);
    return socket;
  }

  static plain(socket: Socket): RawClient {
    return new RawClient(socket);
  }

  /** TLS by SSLRequest, or from the first byte. */
  static async tls(port: number, ca: string, direct = false): Promise<RawClient> {
    const tcp = await RawClient.tcp(port);
    if (!direct) {
      tcp.write(sslRequest);
      await new Promise((resolve) => tcp.once('data', resolve));
    }
    const socket = connectTls({
      socket: tcp,
      ca,
      servername: 'localhost',
      ...(direct ? { ALPNProtocols: ['postgresql'] } : {}),
    });
    await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    return new RawClient(socket);
  }

  static async login(
    port: number,
    ca: string,
    who: { readonly user: string; readonly password: string; readonly database: string },
    options: { readonly direct?: boolean; readonly parameters?: Readonly<Record<string, string>> } = {},
  ): Promise<RawClient> {
    const client = await RawClient.tls(port, ca, options.direct);
    client.send(startupPacket({ user: who.user, database: who.database, ...options.parameters }));
    await client.authenticate(who.password);
    return client;
  }

  /** SCRAM-SHA-256 (RFC 7677), as a client. */
  async authenticate(password: string): Promise<void> {
    await this.next('R');
    const nonce = randomBytes(18).toString('base64');
    const firstBare = `n=,r=${nonce}`;
    const initial = Buffer.from(`n,,${firstBare}`);
    this.send(message('p'.charCodeAt(0), 'SCRAM-SHA-256', initial.length, initial));
    const serverFirst = (await this.next('R')).frame.toString('utf8', 9);
    const [, serverNonce, salt, iterations] = /^r=(.*),s=(.*),i=(\d+)$/.exec(serverFirst) ?? [];
    const salted = pbkdf2Sync(password, Buffer.from(salt ?? '', 'base64'), Number(iterations), 32, 'sha256');
    const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
    const clientKey = hmac(salted, 'Client Key');
    const withoutProof = `c=biws,r=${serverNonce}`;
    const storedKey = createHash('sha256').update(clientKey).digest();
    const signature = hmac(storedKey, `${firstBare},${serverFirst},${withoutProof}`);
    const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] as number)));
    this.send(message('p'.charCodeAt(0), Buffer.from(`${withoutProof},p=${proof.toString('base64')}`)));
    const key = await this.next('K');
    this.processId = key.frame.readInt32BE(5);
    this.secret = key.frame.readInt32BE(9);
    await this.next('Z');
  }

  send(...bytes: Buffer[]): void {
    this.socket.write(Buffer.concat(bytes));
  }

  /** Takes messages off up to the first of that type, and gives that one. @throws when the connection ends before, or too late. */
  async next(type: string, timeoutMs = 60_000): Promise<RawMessage> {
    return (await this.until(type, timeoutMs)).at(-1) as RawMessage;
  }

  /** All messages up to the first of that type. */
  async until(type: string, timeoutMs = 60_000): Promise<RawMessage[]> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const index = this.messages.findIndex((one) => one.type === type);
      if (index !== -1) return this.messages.splice(0, index + 1);
      if (this.isClosed) throw new Error(`closed before ${type}; had ${this.types()}`);
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`no ${type} in ${timeoutMs} ms; had ${this.types()}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  types(): string {
    return this.messages.map((one) => one.type).join('');
  }

  async closed(timeoutMs = 60_000): Promise<void> {
    if (this.isClosed) return;
    await Promise.race([
      new Promise((resolve) => this.socket.once('close', resolve)),
      new Promise((_resolve, reject) => setTimeout(() => reject(new Error('still open')), timeoutMs).unref()),
    ]);
  }

  end(): void {
    this.socket.destroy();
  }
}

export const sqlstateOf = (one: RawMessage): string | undefined =>
  readErrorFields(one.frame, 0, one.frame.length).get('C');

export const textsOf = (messages: readonly RawMessage[]): string =>
  messages.map((one) => (one.type === 'Z' ? `Z${String.fromCharCode(one.frame[5] as number)}` : one.type)).join('');
