/** Where credentials come from, and that they are followed when they change. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { stringify } from 'yaml';
import { ConfigurationError, inClusterConfiguration } from '#kube/configuration.ts';
import { kubeconfigConfiguration } from '#kube/kubeconfig.ts';
import { loadConfiguration } from '#kube/load-configuration.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');

describe('configuration', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kube-'));
  });
  afterEach(() => rm(folder, { recursive: true }));
  const put = (name: string, text: string): Promise<void> => writeFile(join(folder, name), text);

  describe('in a pod', () => {
    const env = { KUBERNETES_SERVICE_HOST: '10.0.0.1', KUBERNETES_SERVICE_PORT: '443' };
    beforeEach(async () => {
      await put('token', 'first\n');
      await put('ca.crt', 'CA');
      await put('namespace', 'shop\n');
    });

    it('takes server, namespace, CA and token from where kubelet puts them', async () => {
      const configuration = await inClusterConfiguration({ env, folder });
      assert.equal(configuration.server, 'https://10.0.0.1:443');
      assert.equal(configuration.namespace, 'shop');
      assert.deepEqual(await configuration.credentials(), { ca: 'CA', token: 'first', verifyServer: true });
    });

    it('brackets an IPv6 address', async () => {
      const configuration = await inClusterConfiguration({
        env: { ...env, KUBERNETES_SERVICE_HOST: 'fd00::1' },
        folder,
      });
      assert.equal(configuration.server, 'https://[fd00::1]:443');
    });

    it('reads the token again when it may have been rotated, and at once when it was refused', async () => {
      let nowMs = 0;
      const configuration = await inClusterConfiguration({ env, folder, now: () => nowMs });
      assert.equal((await configuration.credentials()).token, 'first');
      await put('token', 'second');
      assert.equal((await configuration.credentials()).token, 'first');
      assert.equal((await configuration.credentials(true)).token, 'second');
      await put('token', 'third');
      nowMs = 60_000;
      assert.equal((await configuration.credentials()).token, 'third');
    });

    it('goes on with the last token while the file cannot be read', async () => {
      const configuration = await inClusterConfiguration({ env, folder });
      await configuration.credentials();
      await rm(join(folder, 'token'));
      assert.equal((await configuration.credentials(true)).token, 'first');
    });

    it('says so outside of one', async () => {
      await assert.rejects(inClusterConfiguration({ env: {}, folder }), ConfigurationError);
    });
  });

  describe('by kubeconfig', () => {
    const file = (cluster: object, user: object): string =>
      stringify({
        'current-context': 'here',
        clusters: [{ name: 'c', cluster: { server: 'https://1.2.3.4:6443/', ...cluster } }],
        users: [{ name: 'u', user }],
        contexts: [
          { name: 'here', context: { cluster: 'c', user: 'u', namespace: 'shop' } },
          { name: 'broken', context: { cluster: 'none', user: 'u' } },
        ],
      });
    const load = async (
      cluster: object,
      user: object,
    ): Promise<Awaited<ReturnType<typeof kubeconfigConfiguration>>> => {
      await put('config', file(cluster, user));
      return kubeconfigConfiguration(join(folder, 'config'));
    };

    it('reads certificates from the file itself', async () => {
      const configuration = await load(
        { 'certificate-authority-data': base64('CA') },
        { 'client-certificate-data': base64('CERT'), 'client-key-data': base64('KEY') },
      );
      assert.deepEqual([configuration.server, configuration.namespace], ['https://1.2.3.4:6443', 'shop']);
      assert.deepEqual(await configuration.credentials(), {
        ca: 'CA',
        clientCertificate: { cert: 'CERT', key: 'KEY' },
        verifyServer: true,
      });
    });

    it('reads files named relative to it', async () => {
      await put('ca.pem', 'CA');
      await put('token', 'secret\n');
      const configuration = await load(
        { 'certificate-authority': 'ca.pem', 'tls-server-name': 'api' },
        { tokenFile: 'token' },
      );
      assert.deepEqual(await configuration.credentials(), {
        ca: 'CA',
        token: 'secret',
        verifyServer: true,
        serverName: 'api',
      });
    });

    it('asks a credential plug-in', async () => {
      const script =
        'console.log(JSON.stringify({status:{token:JSON.parse(process.env.KUBERNETES_EXEC_INFO).kind+process.env.MORE}}))';
      const exec = {
        apiVersion: 'client.authentication.k8s.io/v1',
        command: process.execPath,
        args: ['-e', script],
        env: [{ name: 'MORE', value: '!' }],
      };
      assert.equal((await (await load({}, { exec })).credentials()).token, 'ExecCredential!');
    });

    it('names what is missing or not supported', async () => {
      await assert.rejects(load({}, { 'auth-provider': {} }), /auth-provider; use an exec plug-in/);
      await assert.rejects(load({}, { username: 'u' }), /has a password/);
      await assert.rejects(kubeconfigConfiguration(join(folder, 'config'), 'nowhere'), /no context named "nowhere"/);
      await assert.rejects(kubeconfigConfiguration(join(folder, 'config'), 'broken'), /no server for cluster none/);
      await assert.rejects(load({ 'certificate-authority': 'absent.pem' }, {}), /absent\.pem/);
    });

    it('is preferred to the pod where KUBECONFIG names one', async () => {
      await put('config', file({}, { token: 't' }));
      const configuration = await loadConfiguration({
        KUBECONFIG: join(folder, 'config'),
        KUBERNETES_SERVICE_HOST: '10.0.0.1',
        KUBERNETES_SERVICE_PORT: '443',
      });
      assert.equal(configuration.server, 'https://1.2.3.4:6443');
    });
  });
});
