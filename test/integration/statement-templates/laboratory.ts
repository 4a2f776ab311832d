/** One connection to a plain Postgres, on which a text is run both as it is and as the router says it with parameters. */
import { connect, type Socket } from 'node:net';
import { isOfStatement, Parameterised } from '#router/exec/parameterised.ts';
import { PlanCache } from '#router/exec/plan-cache.ts';
import { type Catalogue, PlanError, type Planner } from '#router/plan/index.ts';
import { ShapeScanner } from '#router/plan/shape.ts';
import type { Backend } from '#router/pool/backend.ts';
import { boundBytes } from '#router/session/send.ts';
import { SharedStatements } from '#router/session/statements.ts';
import { queryMessage } from '#router/wire/client-messages.ts';
import { headerBytes } from '#router/wire/codes.ts';
import { FrameSplitter } from '#router/wire/frames.ts';
import { readErrorFields } from '#router/wire/server-messages.ts';
import { startupPacket } from '#router/wire/startup.ts';

interface Message {
  readonly type: string;
  readonly frame: Buffer;
}

class Connection {
  readonly #socket: Socket;
  readonly #splitter = new FrameSplitter(1 << 30);
  #messages: Message[] = [];
  #answered: (messages: Message[]) => void = () => undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) =>
      this.#splitter.push(chunk, (type, frame) => {
        this.#messages.push({ type: String.fromCharCode(type), frame: Buffer.from(frame) });
        if (type !== 'Z'.charCodeAt(0)) return;
        const messages = this.#messages;
        this.#messages = [];
        this.#answered(messages);
      }),
    );
  }

  static async open(host: string, port: number, parameters: Readonly<Record<string, string>>): Promise<Connection> {
    const connection = new Connection(connect({ host, port, noDelay: true }));
    await connection.ask(startupPacket({ client_encoding: 'UTF8', ...parameters }));
    return connection;
  }

  ask(bytes: Buffer): Promise<Message[]> {
    return new Promise((resolve, reject) => {
      this.#socket.once('error', reject).once('close', () => reject(new Error('closed')));
      this.#answered = (messages) => {
        this.#socket.removeAllListeners('error').removeAllListeners('close');
        resolve(messages);
      };
      this.#socket.write(bytes);
    });
  }

  end(): void {
    this.#socket.destroy();
  }
}

/** What a client is told, apart from the order of rows and from where in the source an error arose. */
function said(messages: readonly Message[]): string {
  const rows = messages.filter(({ type }) => type === 'D').map(({ frame }) => frame.toString('latin1'));
  const others = messages.flatMap(({ type, frame }) => {
    if (type === 'E') {
      const fields = readErrorFields(frame, 0, frame.length);
      return [`E ${fields.get('C')} ${fields.get('M')}`];
    }
    return type === 'T' || type === 'C' || type === 'I' ? [frame.toString('latin1')] : [];
  });
  return [...others, ...rows.toSorted()].join('|').replaceAll('\0', '.');
}

export class Laboratory {
  readonly #connection: Connection;
  readonly #shared = new SharedStatements();
  readonly #scanner = new ShapeScanner();
  /** Its failures aren't counted from one text to the next: a template that fails is tried all the same. */
  #parameterised = new Parameterised(this.#scanner, this.#shared);
  readonly #cache: PlanCache;
  readonly #catalogue: Catalogue;
  readonly #made = new Set<string>();
  /** Fell back: Postgres failed them before they ran; in vain, where it answers the same as a simple query. Plain: not said with parameters. */
  readonly counts = { same: 0, refused: 0, fellBack: 0, inVain: 0, plain: 0 };

  private constructor(connection: Connection, planner: Planner, catalogue: Catalogue) {
    this.#connection = connection;
    this.#cache = new PlanCache(planner);
    this.#catalogue = catalogue;
  }

  static async open(
    to: { readonly host: string; readonly port: number; readonly user: string },
    planner: Planner,
    catalogue: Catalogue,
  ): Promise<Laboratory> {
    const { host, port, user } = to;
    return new Laboratory(await Connection.open(host, port, { user, database: 'postgres' }), planner, catalogue);
  }

  async run(sql: string): Promise<string> {
    return said(await this.#connection.ask(queryMessage(sql)));
  }

  /** What differs between both ways. */
  async difference(sql: string): Promise<string | undefined> {
    const bytes = this.#bound(sql);
    if (bytes === undefined) {
      this.counts.plain += 1;
      return undefined;
    }
    const answers = await this.#connection.ask(bytes.bytes);
    const isBound = answers.some(({ type }) => type === '2');
    if (!isBound) {
      const error = answers.find(({ type }) => type === 'E')?.frame ?? Buffer.alloc(0);
      const sqlstate = readErrorFields(error, 0, error.length).get('C') ?? '';
      // The router would pass this on.
      if (!isOfStatement(sqlstate)) return `${sql}\n  as a template ${said(answers)}`;
      this.counts.fellBack += 1;
      if (!(await this.run(sql)).startsWith('E ')) this.counts.inVain += 1;
      bytes.failed(answers);
      return undefined;
    }
    const [plain, prepared] = [await this.run(sql), said(answers)];
    if (plain === prepared) {
      this.counts[answers.some(({ type }) => type === 'E') ? 'refused' : 'same'] += 1;
      return undefined;
    }
    return `${sql}\n  gave ${plain}\n  but as a template ${prepared}`;
  }

  #bound(sql: string): { readonly bytes: Buffer; failed(answers: readonly Message[]): void } | undefined {
    const frame = queryMessage(sql);
    const template = this.#templateOf(frame);
    const bound = template && this.#parameterised.bind(frame, template, '');
    if (bound === undefined) return undefined;
    const made = this.#made;
    const isMade = made.has(bound.name);
    const backend = {
      prepared: { use: (name: string) => made.has(name), add: (name: string) => void made.add(name) },
      expect: () => undefined,
    };
    return {
      bytes: Buffer.concat(boundBytes(bound, backend as unknown as Backend)),
      failed: (answers) => {
        if (!isMade && !answers.some(({ type }) => type === '1')) made.delete(bound.name);
        this.#parameterised = new Parameterised(this.#scanner, this.#shared);
        this.#shared.renew(bound.statement);
      },
    };
  }

  #templateOf(frame: Buffer) {
    try {
      const [only, ...more] = this.#cache.planBytes(frame, headerBytes, frame.length - 1, this.#catalogue);
      return only?.plan.mayShare === true && more.length === 0 ? only.template : undefined;
    } catch (error) {
      if (error instanceof PlanError) return undefined;
      throw error;
    }
  }

  end(): void {
    this.#connection.end();
  }
}
