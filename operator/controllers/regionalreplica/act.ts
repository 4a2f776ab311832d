/** Carries out the actions of a RegionalReplica's plan. Every one may be repeated; what is already so is left alone. */
import { memberTlsSecretName } from '#core/names.ts';
import { roleBindings, roles, secrets, serviceAccounts, services, statefulSets } from '#kube/kinds.ts';
import { type RegionalReplica, shards } from '#kube/meridian.ts';
import { memberSecretData } from '../../pki/member-secret.ts';
import { ensureKeyspaceCa } from '../../pki/secrets.ts';
import type { Applier } from '../../resources/applier.ts';
import type { ActContext, ControllerDeps } from '../../runtime/controller.ts';
import { announcement } from './leaving.ts';
import type { Action } from './plan.ts';

export async function act(
  action: Action,
  deps: ControllerDeps,
  applier: Applier,
  { cache, object: replica }: Pick<ActContext<RegionalReplica>, 'cache' | 'object'>,
): Promise<void> {
  switch (action.kind) {
    case 'EnsureAuthority':
      await ensureKeyspaceCa(deps.kube, action.keyspace, new Date());
      return;
    case 'IssueCertificates':
      await issueCertificates(action, deps);
      return;
    case 'ApplyServiceAccount':
      return unlessCurrent(serviceAccounts, action.object);
    case 'ApplyRole':
      return unlessCurrent(roles, action.object);
    case 'ApplyRoleBinding':
      return unlessCurrent(roleBindings, action.object);
    case 'ApplyService':
      return unlessCurrent(services, action.object);
    case 'ApplyStatefulSet':
      return unlessCurrent(statefulSets, action.object);
    case 'AnnounceLeaving':
      await deps.kube
        .of(shards)
        .patch({ namespace: replica.metadata.namespace, name: action.shard }, announcement(action.shardUid, replica));
      return;
    case 'DeleteStatefulSet':
      await deps.kube
        .of(statefulSets)
        .delete(
          { namespace: replica.metadata.namespace, name: action.name },
          { propagation: 'Background', preconditions: { uid: action.uid } },
        );
      return;
    default:
      action satisfies never;
  }

  async function unlessCurrent<T extends Parameters<Applier['apply']>[1]>(
    type: Parameters<typeof deps.kube.of<T>>[0],
    wish: T,
  ): Promise<void> {
    if (!applier.isCurrent(type, wish, cache.get(type, wish.metadata))) await applier.apply(type, wish);
  }
}

/** Reads both Secrets anew: with a cached authority, certificates could be issued by one that was replaced. */
async function issueCertificates(
  { wish, labels, owner }: Extract<Action, { kind: 'IssueCertificates' }>,
  deps: ControllerDeps,
): Promise<void> {
  const now = new Date();
  const { namespace } = wish;
  const ca = await ensureKeyspaceCa(deps.kube, { metadata: { namespace, name: wish.keyspace } }, now);
  const client = deps.kube.of(secrets);
  const reference = { namespace, name: memberTlsSecretName(wish.regionalReplica) };
  const present = await client.find(reference);
  await client.apply({
    metadata: { ...reference, labels, ownerReferences: [owner] },
    type: 'Opaque',
    data: await memberSecretData(present, ca, wish, now),
  });
}
