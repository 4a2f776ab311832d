/**
 * What one client hears, judged: everything that carries a mark must carry its own. Marks are `tenant:nonce-client-number`; rows, errors,
 * notices, notifications, COPY data and parameters are all looked through, byte by byte.
 */
import assert from 'node:assert/strict';
import { type RawMessage, sqlstateOf, textsOf } from '../../integration/router-raw-client.ts';

export const tenants = ['acme', 'bolt', 'cord'] as const;
export type Tenant = (typeof tenants)[number];

/** What killing a backend, waiting for one, or keeping one may bring on anybody at any time. */
const mishaps: ReadonlySet<string> = new Set(['08006', '08007', '40001', '53300', '57P03']);

const nonces = /nonce-(\d+)-(\d+)/g;
const names = new RegExp(`\\b(?:${tenants.join('|')})\\b`, 'g');

/** Which connections to members served whom, as rows say it (stage.ts, `placed`): whether several clients, and tenants, shared them. */
export class Sharing {
  readonly #connections = new Map<
    string,
    { readonly clients: Set<number>; readonly tenants: Set<string>; last: string }
  >();
  /** A connection served another tenant than the last time that one of its rows was seen. */
  changes = 0;

  note(place: string, client: number, tenant: Tenant): void {
    let one = this.#connections.get(place);
    if (one === undefined)
      this.#connections.set(place, (one = { clients: new Set(), tenants: new Set(), last: tenant }));
    one.clients.add(client);
    one.tenants.add(tenant);
    if (one.last !== tenant) this.changes += 1;
    one.last = tenant;
  }

  get connections(): number {
    return this.#connections.size;
  }

  get ofSeveralTenants(): number {
    return [...this.#connections.values()].filter(({ tenants: { size } }) => size > 1).length;
  }

  /** Of the connection that most clients came by. */
  get mostClients(): number {
    return Math.max(0, ...[...this.#connections.values()].map(({ clients: { size } }) => size));
  }
}

export class Witness {
  tenant: Tenant;
  /** The action at hand, for whoever reads of a failure. */
  doing = '';
  #said: string[] = [];
  readonly #sharing: Sharing;
  readonly #index: number;
  readonly #seed: number;
  #number = 0;
  /** Messages that were looked through. */
  heard = 0;

  constructor(index: number, tenant: Tenant, seed: number, sharing: Sharing) {
    this.#sharing = sharing;
    this.#index = index;
    this.tenant = tenant;
    this.#seed = seed;
  }

  /** For the next statement. */
  next(): string {
    this.#number += 1;
    this.#said = [];
    return this.nonce;
  }

  get nonce(): string {
    return `nonce-${this.#index}-${this.#number}`;
  }

  get mark(): string {
    return `${this.tenant}:${this.nonce}`;
  }

  /** For whoever reads of a failure. */
  note(said: string): void {
    this.#said.push(said);
  }

  /** Every mark is this client's; those of rows are of this very statement. */
  judge(messages: readonly RawMessage[]): void {
    for (const one of messages) {
      this.heard += 1;
      const text = one.frame.toString('latin1');
      // A notification may be of any client of the tenant.
      for (const [found, index, number] of one.type === 'A' ? [] : text.matchAll(nonces)) {
        assert.equal(Number(index), this.#index, this.#about(`${found} in a message of type ${one.type}`));
        if (one.type === 'D' || one.type === 'd')
          assert.equal(Number(number), this.#number, this.#about(`${found}, an answer to something earlier`));
      }
      for (const [found] of text.matchAll(names))
        assert.equal(found, this.tenant, this.#about(`tenant ${found} in a message of type ${one.type}`));
      if (one.type === 'D' || one.type === 'd')
        assert.ok(text.includes(this.mark), this.#about(`a row without its mark: ${text.slice(0, 500)}`));
      const place = one.type === 'D' ? / at (\S+\/\d+)/.exec(text)?.[1] : undefined;
      if (place !== undefined) this.#sharing.note(place, this.#index, this.tenant);
    }
  }

  /** Before it says something: nothing lies there that nobody asked for. */
  judgeLeftovers(messages: readonly RawMessage[]): void {
    const left = messages.filter(({ type }) => !'ANS'.includes(type));
    assert.equal(textsOf(left), '', this.#about('more came than was asked for'));
  }

  /** No error but what its own action, or a mishap, explains. */
  judgeErrors(messages: readonly RawMessage[], expected: readonly string[]): void {
    for (const one of messages) {
      const sqlstate = one.type === 'E' ? (sqlstateOf(one) ?? '') : undefined;
      if (sqlstate !== undefined)
        assert.ok(
          mishaps.has(sqlstate) || expected.includes(sqlstate),
          this.#about(`${sqlstate} is nobody's: ${one.frame.toString('utf8', 5)}`),
        );
    }
  }

  /** And no transaction left open that it didn't begin. */
  judgeEnd(messages: readonly RawMessage[], expected: readonly string[], status: string): void {
    this.judgeErrors(messages, expected);
    const end = textsOf(messages.slice(-1));
    const types = textsOf(messages);
    assert.ok(status.includes(end), this.#about(`${end} at the end of ${types}`));
  }

  #about(what: string): string {
    return `client ${this.#index} of ${this.tenant}, "${this.doing}" (seed ${this.#seed}): ${what}; ${this.#said.join(', ')}`;
  }
}
