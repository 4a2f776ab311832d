/**
 * Runs a kubeconfig's credential plug-in (cloud providers' log-ins) and reads the ExecCredential that it prints.
 * Only for programs that run outside of the cluster; never interactive.
 * Source: Kubernetes documentation, "client-go credential plugins".
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { ConfigurationError, type Credentials } from './configuration.ts';
import type { ExecSpec } from './kubeconfig.ts';

interface ExecCredential {
  readonly status?: {
    readonly token?: string;
    readonly clientCertificateData?: string;
    readonly clientKeyData?: string;
  };
}

const timeoutMs = 30_000;
const run = promisify(execFile);

export async function runExecPlugin(
  spec: ExecSpec,
  folder: string,
): Promise<Pick<Credentials, 'token' | 'clientCertificate'>> {
  const request = { apiVersion: spec.apiVersion, kind: 'ExecCredential', spec: { interactive: false } };
  const given = Object.fromEntries((spec.env ?? []).map(({ name, value }) => [name, value]));
  const { stdout } = await run(spec.command, [...(spec.args ?? [])], {
    cwd: folder,
    timeout: timeoutMs,
    env: { ...process.env, ...given, KUBERNETES_EXEC_INFO: JSON.stringify(request) },
  }).catch((error: unknown) => {
    throw new ConfigurationError(`credential plug-in ${spec.command} failed: ${String(error)}`, { cause: error });
  });
  const { status } = JSON.parse(stdout) as ExecCredential;
  const { token, clientCertificateData: cert, clientKeyData: key } = status ?? {};
  if (token === undefined && (cert === undefined || key === undefined))
    throw new ConfigurationError(`credential plug-in ${spec.command} gave neither token nor certificate`);
  return {
    ...(token === undefined ? {} : { token }),
    ...(cert === undefined || key === undefined ? {} : { clientCertificate: { cert, key } }),
  };
}
