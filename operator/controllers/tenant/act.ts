/**
 * Does what the plan says for a tenant: records its place, and changes its row on the shard's primary. Decides nothing.
 */

import type { Client } from 'pg';
import { isConflict } from '#kube/errors.ts';
import { secrets } from '#kube/kinds.ts';
import { keyspaces, shards, type Tenant } from '#kube/meridian.ts';
import { operatorCredentials, operatorCredentialsReference } from '#operator/controllers/keyspace/credentials.ts';
import { KeptConnections } from '#operator/postgres/kept-connections.ts';
import { removeTenant, setTenant, type TenantChangeResult } from '#operator/postgres/ownership/tenants.ts';
import type { ActContext } from '#operator/runtime/controller.ts';
import type { PlacementOutcome, TenantAction } from './actions.ts';
import { cleanRows } from './clean-rows.ts';
import { keyspaceKey, type TenantSenses } from './observe.ts';
import { OwnershipReader } from './ownership-reader.ts';
import { Placements } from './placements.ts';
import type { OwnershipRow, ShardAccess } from './snapshot.ts';

type Context = ActContext<Tenant>;
type ActionOf<Kind extends TenantAction['kind']> = Extract<TenantAction, { kind: Kind }>;

export class TenantActor implements TenantSenses {
  readonly connections = new KeptConnections();
  readonly reader = new OwnershipReader();
  readonly placements = new Placements();
  readonly #cleaned = new Set<string>();

  get cleaned(): ReadonlySet<string> {
    return this.#cleaned;
  }

  async act(action: TenantAction, context: Context): Promise<unknown> {
    switch (action.kind) {
      case 'place':
        return this.#place(action, context);
      case 'own':
        return this.#own(action, context);
      case 'disown':
        return this.#disown(action, context);
      case 'clean':
        return this.#clean(action, context);
    }
  }

  async #place(action: ActionOf<'place'>, context: Context): Promise<PlacementOutcome> {
    const { uid } = context.object.metadata;
    const keyspace = keyspaceKey(context.object);
    const identity = { uid, key: action.key };
    const authority = { shard: action.shard, epoch: 1, state: 'active', attempt: 0 } as const;
    if (!this.placements.claim(keyspace, identity, action.shard, action.placementsSeen)) return 'superseded';
    try {
      await context.recordStatus({ authority, placedAt: `${new Date().toISOString().slice(0, 19)}Z` });
    } catch (error) {
      // Any other failure leaves it open whether the record was written: then the claim stays until it shows.
      if (isConflict(error)) this.placements.withdraw(keyspace, uid);
      throw error;
    }
    context.log.info({ shard: action.shard }, 'placed');
    const { access, key } = action;
    return access === undefined ? 'recorded' : this.#own({ kind: 'own', access, key, authority }, context);
  }

  async #own({ access, key, authority }: ActionOf<'own'>, context: Context): Promise<TenantChangeResult> {
    const { epoch, attempt } = authority;
    const result = await this.#use(access, context, (client) =>
      setTenant(client, { key, epoch, attempt, state: 'active' }),
    );
    this.#afterChange(access, context, result, { epoch, attempt, state: 'active' });
    return result;
  }

  async #disown({ access, key, row }: ActionOf<'disown'>, context: Context): Promise<TenantChangeResult> {
    const result = await this.#use(access, context, (client) => removeTenant(client, { key, from: row }));
    this.#afterChange(access, context, result, undefined);
    if (result.kind === 'refused' && result.found !== undefined)
      throw new Error(
        `shard ${access.shard} has the tenant as ${result.found.state} at epoch ${result.found.epoch} now`,
      );
    return result;
  }

  async #clean({ access, key, row }: ActionOf<'clean'>, context: Context): Promise<void> {
    const keyspace = context.cache.get(keyspaces, referenceOfKeyspace(context));
    if (keyspace === undefined) throw new Error(`keyspace ${context.object.spec.keyspace} is gone`);
    const { finished, deletedRows } = await this.#use(access, context, (client) =>
      cleanRows(client, key, row, { keyType: keyspace.spec.tenantKey.type }),
    );
    context.log.info({ shard: access.shard, deletedRows, finished }, 'deleted rows');
    this.#forget(access, context);
    if (finished) this.#cleaned.add(context.object.metadata.uid);
  }

  async #use<T>(access: ShardAccess, context: Context, use: (client: Client) => Promise<T>): Promise<T> {
    const { namespace = '' } = context.object.metadata;
    const { keyspace } = context.object.spec;
    const credentials = operatorCredentials(
      context.cache.get(secrets, operatorCredentialsReference(namespace, keyspace)),
    );
    if (credentials === undefined) throw new Error("the operator's certificate isn't there yet");
    return this.connections.use(access.member, access.database, credentials, use);
  }

  /** Keeps what is remembered of the shard's rows true. */
  #afterChange(access: ShardAccess, context: Context, result: TenantChangeResult, row: OwnershipRow | undefined): void {
    const uid = uidOfShard(access, context);
    if (uid === undefined) return;
    if (result.kind === 'refused') this.reader.forget(uid);
    else this.reader.note(uid, context.object.spec.key, row);
  }

  #forget(access: ShardAccess, context: Context): void {
    const uid = uidOfShard(access, context);
    if (uid !== undefined) this.reader.forget(uid);
  }
}

const referenceOfKeyspace = (context: Context) => ({
  namespace: context.object.metadata.namespace,
  name: context.object.spec.keyspace,
});

const uidOfShard = (access: ShardAccess, context: Context): string | undefined =>
  context.cache.get(shards, { namespace: context.object.metadata.namespace, name: access.shard })?.metadata.uid;
