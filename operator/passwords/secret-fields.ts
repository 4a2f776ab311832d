/**
 * How a role's password and its rotation lie in the role's Secret (base64 values) and its annotations. Reading never throws: a
 * field that someone spoilt counts as absent, and `nextPassword` decides what becomes of it.
 */
import { annotations } from '#core/names.ts';
import type { RolePassword } from './role-password.ts';
import { parseVerifier } from './verifier.ts';

export const passwordFields = {
  password: 'password',
  verifier: 'verifier',
  previousVerifier: 'previous-verifier',
  previousUntil: 'previous-until',
  preparedPassword: 'prepared-password',
  preparedVerifier: 'prepared-verifier',
  preparedRequest: 'prepared-request',
} as const;

export interface SecretContents {
  readonly data: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export const encodeField = (text: string): string => Buffer.from(text, 'utf8').toString('base64');
export const decodeField = (value: string | undefined): string =>
  value === undefined ? '' : Buffer.from(value, 'base64').toString('utf8');

/** What the Secret remembers. With neither password nor verifier it is a Secret that we know nothing of: as if it were new. */
export function readRolePassword(secret: SecretContents): RolePassword | undefined {
  const field = (name: string): string => decodeField(secret.data[name]);
  const password = field(passwordFields.password);
  const verifier = field(passwordFields.verifier);
  if (password === '' && verifier === '') return undefined;
  const previousVerifier = field(passwordFields.previousVerifier);
  const untilMs = Date.parse(field(passwordFields.previousUntil));
  const prepared = {
    password: field(passwordFields.preparedPassword),
    verifier: field(passwordFields.preparedVerifier),
    request: field(passwordFields.preparedRequest),
  };
  return {
    password,
    verifier,
    served: secret.annotations[annotations.rotated] ?? '',
    ...(parseVerifier(previousVerifier) !== undefined && Number.isFinite(untilMs)
      ? { previous: { verifier: previousVerifier, untilMs } }
      : {}),
    ...(prepared.password !== '' && parseVerifier(prepared.verifier) !== undefined && prepared.request !== ''
      ? { prepared }
      : {}),
  };
}

/** The value of the annotation by which people ask for a new password; '' for none. */
export const rotationRequest = (secret: SecretContents): string => secret.annotations[annotations.rotate] ?? '';

/** The Secret's fields for a password; fields that are absent here must be absent there. */
export function passwordSecretFields(state: RolePassword): SecretContents {
  const texts: Record<string, string> = {
    [passwordFields.password]: state.password,
    [passwordFields.verifier]: state.verifier,
  };
  if (state.previous !== undefined) {
    texts[passwordFields.previousVerifier] = state.previous.verifier;
    texts[passwordFields.previousUntil] = new Date(state.previous.untilMs).toISOString();
  }
  if (state.prepared !== undefined) {
    texts[passwordFields.preparedPassword] = state.prepared.password;
    texts[passwordFields.preparedVerifier] = state.prepared.verifier;
    texts[passwordFields.preparedRequest] = state.prepared.request;
  }
  return {
    data: Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, encodeField(text)])),
    annotations: state.served === '' ? {} : { [annotations.rotated]: state.served },
  };
}
