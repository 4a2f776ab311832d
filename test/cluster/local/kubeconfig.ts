// Renders a kubeconfig that holds one client certificate; everything is inside, so the file can be copied anywhere.
import { stringify } from 'yaml';
import type { PemPair } from './certificates.ts';

export function kubeconfig(server: string, authorityCertificate: string, client: PemPair): string {
  const name = 'meridian';
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server, 'certificate-authority-data': base64(authorityCertificate) } }],
    users: [
      {
        name,
        user: { 'client-certificate-data': base64(client.certificate), 'client-key-data': base64(client.key) },
      },
    ],
    contexts: [{ name, context: { cluster: name, user: name } }],
    'current-context': name,
  });
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
