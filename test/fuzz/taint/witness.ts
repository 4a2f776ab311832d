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

export class Witness {
  readonly tenant: Tenant;
  readonly #index: number;
  readonly #seed: number;
  #number = 0;
  /** Messages that were looked through. */
  heard = 0;

  constructor(index: number, tenant: Tenant, seed: number) {
    this.#index = index;
    this.tenant = tenant;
    this.#seed = seed;
  }

  /** For the next statement. */
  next(): string {
    this.#number += 1;
    return this.nonce;
  }

  get nonce(): string {
    return `nonce-${this.#index}-${this.#number}`;
  }

  get mark(): string {
    return `${this.tenant}:${this.nonce}`;
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
        assert.ok(text.includes(this.mark), this.#about(`a row without its mark: ${text}`));
    }
  }

  /** No error but what its own action, or a mishap, explains; and no transaction left open that it didn't begin. */
  judgeEnd(messages: readonly RawMessage[], expected: readonly string[], status: string): void {
    for (const one of messages) {
      const sqlstate = one.type === 'E' ? (sqlstateOf(one) ?? '') : undefined;
      if (sqlstate !== undefined)
        assert.ok(
          mishaps.has(sqlstate) || expected.includes(sqlstate),
          this.#about(`${sqlstate} is nobody's: ${one.frame.toString('utf8', 5)}`),
        );
    }
    const end = textsOf(messages.slice(-1));
    assert.ok(status.includes(end), this.#about(`${end} at the end`));
  }

  #about(what: string): string {
    return `client ${this.#index} of ${this.tenant} (seed ${this.#seed}): ${what}`;
  }
}
