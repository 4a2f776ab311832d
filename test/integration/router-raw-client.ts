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

export interface LoginOptions {
  readonly direct?: boolean;
  readonly parameters?: Readonly<Record<string, string>>;
  /** Minor version of the protocol. */
  readonly minor?: number;
  /** Sent before anything else, in the clear. */
  readonly header?: Buffer;
  readonly certificate?: { readonly certificate: string; readonly privateKey: string };
  readonly bindTo?: Buffer;
  readonly behind?: Buffer;
}

const salted = new Map<string, Buffer>();

/** Thousands of clients of one role are let in without each working it out. */
function saltedPassword(password: string, salt: string, iterations: number): Buffer {
  const key = `${iterations} ${salt} ${password}`;
  let found = salted.get(key);
  if (found === undefined) {
    found = pbkdf2Sync(password, Buffer.from(salt, 'base64'), iterations, 32, 'sha256');
    salted.set(key, found);
  }
  return found;
}

/** The router says nothing, and the connection is still there: whoever waits must not wait for ever. */
export class Silence extends Error {
  override readonly name = 'Silence';
}

/** On a machine that is busy with other things, a thousand at once. */
const loginMs = 150_000;

export class RawClient {
  readonly socket: Socket;
  readonly messages: RawMessage[] = [];
  readonly #splitter = new FrameSplitter(1 << 30);
  #wake: () => void = () => undefined;
  isClosed = false;
  processId = 0;
  secret: Buffer = Buffer.alloc(0);

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

  /** Of somebody who may be answered by single bytes (SSL and GSSAPI requests) or by TLS: what comes isn't looked at. */
  static unframed(socket: Socket): RawClient {
    const client = new RawClient(socket);
    socket.removeAllListeners('data');
    socket.resume();
    return client;
  }

  /** TLS by SSLRequest, or from the first byte. */
  static async tls(
    port: number,
    ca: string,
    options: Pick<LoginOptions, 'direct' | 'header' | 'certificate'> = {},
  ): Promise<RawClient> {
    const tcp = await RawClient.tcp(port);
    let stage = 'answer to the SSL request';
    let timer: NodeJS.Timeout | undefined;
    // A TLS socket over one that is closed already says nothing at all, not even that it is closed.
    const gone = new Promise<never>((_resolve, reject) => {
      tcp.once('close', () => reject(new Error(`closed before the ${stage}`)));
      timer = setTimeout(() => reject(new Silence(`no ${stage} in ${loginMs} ms`)), loginMs);
    });
    gone.catch(() => clearTimeout(timer));
    if (options.header !== undefined) tcp.write(options.header);
    if (options.direct !== true) {
      tcp.write(sslRequest);
      await Promise.race([gone, new Promise((resolve) => tcp.once('data', resolve))]);
    }
    stage = 'end of the TLS handshake';
    const socket = connectTls({
      socket: tcp,
      ca,
      servername: 'localhost',
      ...(options.direct === true ? { ALPNProtocols: ['postgresql'] } : {}),
      ...(options.certificate === undefined
        ? {}
        : { cert: options.certificate.certificate, key: options.certificate.privateKey }),
    });
    await Promise.race([
      gone,
      new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject)),
    ]);
    clearTimeout(timer);
    return new RawClient(socket);
  }

  static async login(
    port: number,
    ca: string,
    who: { readonly user: string; readonly password: string; readonly database: string },
    options: LoginOptions = {},
  ): Promise<RawClient> {
    const client = await RawClient.tls(port, ca, options);
    const startup = startupPacket({ user: who.user, database: who.database, ...options.parameters });
    startup.writeUInt16BE(options.minor ?? 0, 6);
    client.send(startup);
    await client.authenticate(who.password, options.bindTo, options.behind);
    return client;
  }

  /**
   * SCRAM-SHA-256 (RFC 7677), as a client. `bindTo`: with -PLUS, and that digest of the server's certificate. `behind`: sent in one
   * piece with the last message, as no driver would.
   */
  async authenticate(password: string, bindTo?: Buffer, behind: Buffer = Buffer.alloc(0)): Promise<void> {
    await this.next('R');
    const nonce = randomBytes(18).toString('base64');
    const firstBare = `n=,r=${nonce}`;
    const header = bindTo === undefined ? 'n,,' : 'p=tls-server-end-point,,';
    const initial = Buffer.from(`${header}${firstBare}`);
    this.send(
      message('p'.charCodeAt(0), `SCRAM-SHA-256${bindTo === undefined ? '' : '-PLUS'}`, initial.length, initial),
    );
    const serverFirst = (await this.next('R')).frame.toString('utf8', 9);
    const [, serverNonce, salt, iterations] = /^r=(.*),s=(.*),i=(\d+)$/.exec(serverFirst) ?? [];
    const saltedBytes = saltedPassword(password, salt ?? '', Number(iterations));
    const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
    const clientKey = hmac(saltedBytes, 'Client Key');
    const binding = Buffer.concat([Buffer.from(header), bindTo ?? Buffer.alloc(0)]).toString('base64');
    const withoutProof = `c=${binding},r=${serverNonce}`;
    const storedKey = createHash('sha256').update(clientKey).digest();
    const signature = hmac(storedKey, `${firstBare},${serverFirst},${withoutProof}`);
    const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] as number)));
    this.send(message('p'.charCodeAt(0), Buffer.from(`${withoutProof},p=${proof.toString('base64')}`)), behind);
    const key = await this.next('K');
    this.processId = key.frame.readInt32BE(5);
    this.secret = key.frame.subarray(9);
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
  until(type: string, timeoutMs = 60_000): Promise<RawMessage[]> {
    return this.untilAny([type], timeoutMs);
  }

  /** All messages up to the first of one of these types. */
  async untilAny(types: readonly string[], timeoutMs = 60_000): Promise<RawMessage[]> {
    const type = types.join(' or ');
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const index = this.messages.findIndex((one) => types.includes(one.type));
      if (index !== -1) return this.messages.splice(0, index + 1);
      if (this.isClosed) {
        const said = this.messages.filter((one) => one.type === 'E').map((one) => one.frame.toString('utf8', 5));
        throw new Error(`closed before ${type}; had ${this.types()} ${said.join(' ').replaceAll('\0', ' ')}`);
      }
      const left = deadline - performance.now();
      if (left <= 0) throw new Silence(`no ${type} in ${timeoutMs} ms; had ${this.types()}`);
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
