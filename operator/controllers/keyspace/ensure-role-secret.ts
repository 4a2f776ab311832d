/**
 * One role's Secret: read, taken one step further (`operator/passwords`), written where that changes it.
 * The write is a compare-and-swap on the version that was read, so two operators at once never mix two passwords.
 */
import { isDeepStrictEqual } from 'node:util';
import { caSecretName, roleSecretName } from '#core/names.ts';
import type { KubeApi } from '#kube/client.ts';
import { type Secret, secrets } from '#kube/kinds.ts';
import type { Keyspace } from '#kube/meridian.ts';
import type { Stored } from '#kube/objects.ts';
import { generateParameters, generatePassword } from '#operator/passwords/generate.ts';
import {
  acceptedVerifiers,
  nextPassword,
  publishPrepared,
  type RolePassword,
} from '#operator/passwords/role-password.ts';
import { readRolePassword, rotationRequest } from '#operator/passwords/secret-fields.ts';
import type { KeyPairPem } from '#operator/pki/key-pair.ts';
import { issueCertificate, reissueReason } from '#operator/pki/leaf.ts';
import { caOfSecret, textOf } from '#operator/pki/secrets.ts';
import type { KeyspaceAction, RoleSecretOutcome } from './actions.ts';
import { routersLearnMs, type ShardLedger } from './ledger.ts';
import { roleSecret } from './role-secret.ts';
import { digestOfAccepted } from './set-up-shards.ts';

type EnsureRoleSecret = Extract<KeyspaceAction, { kind: 'ensureRoleSecret' }>;

export async function ensureRoleSecret(
  kube: KubeApi,
  ledger: ShardLedger,
  keyspace: Stored<Keyspace>,
  action: EnsureRoleSecret,
): Promise<RoleSecretOutcome> {
  const { namespace = '', name } = keyspace.metadata;
  const client = kube.of(secrets);
  const reference = { namespace, name: roleSecretName(name, action.role) };
  const [present, authority] = await Promise.all([
    client.find(reference),
    client.get({ namespace, name: caSecretName(name) }),
  ]);
  const contents = { data: present?.data ?? {}, annotations: present?.metadata.annotations ?? {} };
  const nowMs = Date.now();
  const overlapMs = keyspace.spec.passwordOverlapSeconds * 1000;
  let { state, step }: Awaited<ReturnType<typeof nextPassword>> = await nextPassword(
    present === undefined ? undefined : readRolePassword(contents),
    rotationRequest(contents),
    { nowMs, overlapMs, newPassword: generatePassword, newParameters: generateParameters },
  );
  const publishAtMs = state.prepared === undefined ? undefined : publicationTimeMs(state, ledger, action);
  if (publishAtMs !== undefined && publishAtMs <= nowMs) {
    state = publishPrepared(state, nowMs, overlapMs);
    step = 'published';
  }
  const wish = roleSecret(
    {
      namespace,
      keyspace: name,
      role: action.role,
      database: action.database,
      bundle: textOf(authority, 'ca.crt') ?? '',
      regions: action.regions,
      certificate:
        action.clientCertificate === true
          ? await certificateOf({ namespace, keyspace: name, role: action.role }, authority, present)
          : undefined,
    },
    state,
    present,
  );
  if (present === undefined) await client.create(wish);
  else if (!isSame(wish, present)) await client.update(wish);
  return {
    role: action.role,
    secret: reference.name,
    step,
    preparing: state.prepared !== undefined,
    nextStepMs: state.prepared === undefined ? state.previous?.untilMs : (publishAtMs ?? nowMs + pollMs),
  };
}

/** The role's certificate: the present one while it is good. @throws BrokenAuthorityError */
async function certificateOf(
  who: { readonly namespace: string; readonly keyspace: string; readonly role: string },
  authority: Secret,
  present: Secret | undefined,
): Promise<KeyPairPem> {
  const ca = caOfSecret(authority);
  const wish = { identity: { kind: 'role' as const, ...who }, dnsNames: [], ipAddresses: [] };
  const [certificate, privateKey] = [textOf(present, 'tls.crt'), textOf(present, 'tls.key')];
  const existing = certificate === undefined || privateKey === undefined ? undefined : { certificate, privateKey };
  if (existing !== undefined && reissueReason(existing, ca, wish, new Date()) === undefined) return existing;
  return issueCertificate(ca, wish, new Date());
}

/** How often to look whether every shard has learnt a new password. */
const pollMs = 2_000;

/** When applications may be shown a prepared password; undefined while a shard doesn't accept it yet or can't be asked. */
function publicationTimeMs(state: RolePassword, ledger: ShardLedger, action: EnsureRoleSecret): number | undefined {
  if (!action.complete) return undefined;
  if (action.shards.length === 0) return 0;
  const primaries = action.shards.map(({ uid, epoch, incarnation, member }) => ({
    uid,
    epoch,
    incarnation,
    member: member.member,
  }));
  const sinceMs = ledger.acceptedSinceMs(action.role, digestOfAccepted(acceptedVerifiers(state)), primaries);
  return sinceMs === undefined ? undefined : sinceMs + routersLearnMs;
}

type SecretLike = Pick<Stored<ReturnType<typeof roleSecret>>, 'data' | 'metadata'>;

const isSame = (
  wish: Pick<SecretLike, 'data'> & { metadata: ReturnType<typeof roleSecret>['metadata'] },
  present: SecretLike,
): boolean =>
  isDeepStrictEqual(wish.data, present.data) &&
  isDeepStrictEqual(wish.metadata.labels, present.metadata.labels) &&
  isDeepStrictEqual(wish.metadata.annotations ?? {}, present.metadata.annotations ?? {});
