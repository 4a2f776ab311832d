import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { renderHostAccess, renderParameters, renderUserMaps } from '#agent/postgres/configuration-files.ts';
import { mergeParameters } from '#agent/postgres/parameters.ts';

describe('the parameters of a Shard', () => {
  it('win over the defaults', () => {
    assert.equal(mergeParameters({}).parameters['shared_buffers'], '64MB');
    assert.equal(mergeParameters({ shared_buffers: '1GB' }).parameters['shared_buffers'], '1GB');
    assert.deepEqual(mergeParameters({ Shared_Buffers: '1GB' }).problems, []);
  });

  for (const name of [
    'fsync',
    'wal_level',
    'restart_after_crash',
    'synchronous_standby_names',
    'synchronous_commit',
    'hot_standby_feedback',
    'listen_addresses',
    'ssl_key_file',
    'primary_conninfo',
    'hba_file',
    'include',
    'restore_command',
    'archive_mode',
  ]) {
    it(`cannot set ${name}, and say so`, () => {
      const { parameters, problems } = mergeParameters({ [name]: 'off' });
      assert.equal(problems.length, 1);
      assert.match(problems[0] ?? '', new RegExp(`${name} is fixed`));
      assert.deepEqual(parameters, mergeParameters({}).parameters);
    });
  }

  it('cannot carry another parameter in a name or a value', () => {
    const { parameters, problems } = mergeParameters({ 'work_mem = 1\nfsync': 'off', work_mem: "4MB'\nfsync = off" });
    assert.equal(problems.length, 2);
    assert.deepEqual(parameters, mergeParameters({}).parameters);
  });

  it('are one line each, whatever the value', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), (value) => {
        const { parameters } = mergeParameters({ 'meridian.note': value });
        const lines = renderParameters(parameters)
          .split('\n')
          .filter((line) => line.startsWith('meridian.note'));
        if (/[\n\r\0]/.test(value)) return assert.equal(lines.length, 0);
        assert.equal(lines.length, 1);
        const quoted = /^meridian\.note = '((?:[^'\\]|''|\\\\)*)'$/.exec(lines[0] ?? '');
        return assert.equal(quoted?.[1]?.replaceAll("''", "'").replaceAll('\\\\', '\\'), value);
      }),
    );
  });
});

describe('who may come in', () => {
  const rules = (text: string): string[][] =>
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.split(/\s+/));

  it('closed: nobody over the network', () => {
    for (const rule of rules(renderHostAccess('closed')).filter(([type]) => type !== 'local')) {
      assert.equal(rule.at(-1), 'reject', rule.join(' '));
    }
  });

  it('open: over TLS only, and replication never', () => {
    const network = rules(renderHostAccess('open')).filter(([type]) => type !== 'local');
    for (const rule of network.filter((line) => line.at(-1) !== 'reject')) {
      assert.equal(rule[0], 'hostssl', rule.join(' '));
      assert.equal(rule[1], 'all', 'the keyword all does not match replication');
      assert.notEqual(rule[2], 'all');
    }
    assert.ok(
      network.some(
        ([type, database, , , method]) => type === 'host' && database === 'replication' && method === 'reject',
      ),
    );
  });

  it('locally: our own roles by peer, in both', () => {
    for (const access of ['closed', 'open'] as const) {
      const local = rules(renderHostAccess(access)).filter(([type]) => type === 'local');
      assert.deepEqual(local.at(-1), ['local', 'all', 'all', 'reject']);
      for (const rule of local.slice(0, -1)) assert.equal(rule[3], 'peer');
    }
  });

  it("a router's certificate opens its own role and the applications', an operator's the operator's", () => {
    assert.deepEqual(
      rules(renderUserMaps()).filter(([map]) => map === 'network'),
      [
        ['network', 'meridian-operator', 'meridian_operator'],
        ['network', 'meridian-router', 'meridian_router'],
        ['network', 'meridian-router', '+meridian_application'],
      ],
    );
  });
});
