/** The committed CRD YAML: up to date, complete, bounded and described. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { z } from 'zod';
import { customResourceDefinition, customResourceDefinitionYaml, resourcesPath, yamlPath } from '#crds/generate.ts';
import { kinds } from '#crds/index.ts';
import { resourcesPage } from '#crds/reference.ts';
import { type Structural, structural } from '#crds/structural.ts';

type Visit = (schema: Structural, path: string) => void;
const walk = (schema: Structural, path: string, visit: Visit): void => {
  visit(schema, path);
  for (const [name, inner] of Object.entries(schema.properties ?? {})) walk(inner, `${path}.${name}`, visit);
  if (schema.items) walk(schema.items, `${path}[]`, visit);
  if (schema.additionalProperties) walk(schema.additionalProperties, `${path}{}`, visit);
};
const schemaOf = (kind: (typeof kinds)[number]): Structural => {
  const [version] = customResourceDefinition(kind).spec.versions;
  assert.ok(version);
  return version.schema.openAPIV3Schema;
};

for (const kind of kinds) {
  test(`crds/${kind.singular}.yaml is up to date (else: npm run crds)`, () => {
    assert.equal(readFileSync(yamlPath(kind), 'utf8'), customResourceDefinitionYaml(kind));
  });

  test(`the CRD of ${kind.kind} is small enough for a plain kubectl apply`, () => {
    assert.ok(JSON.stringify(customResourceDefinition(kind)).length < 200 * 1024);
  });

  test(`every field of ${kind.kind} has a description`, () => {
    const bare: string[] = [];
    walk(schemaOf(kind), kind.singular, (schema, path) => {
      if (path.endsWith(']') || path.endsWith('}') || path.includes('.metadata')) return;
      if (!schema.description) bare.push(path);
    });
    assert.deepEqual(bare, []);
  });

  test(`every description of ${kind.kind} is a sentence, and a default is told in it`, () => {
    const wrong: string[] = [];
    walk(schemaOf(kind), kind.singular, ({ description, default: value }, path) => {
      if (description !== undefined && !/^[A-Z0-9a-z'].*\.$/.test(description)) wrong.push(`${path}: ${description}`);
      if (value !== undefined && typeof value !== 'object' && !/Default: /.test(description ?? ''))
        wrong.push(`${path} does not tell its default`);
    });
    assert.deepEqual(wrong, []);
  });

  test(`everything that can grow in ${kind.kind} has a bound, or the API server refuses its rules as too costly`, () => {
    const unbounded: string[] = [];
    walk(schemaOf(kind), kind.singular, (schema, path) => {
      if (path === `${kind.singular}.apiVersion` || path === `${kind.singular}.kind`) return;
      if (schema.type === 'array' && schema.maxItems === undefined) unbounded.push(path);
      if (schema.type === 'string' && schema.maxLength === undefined && schema.enum === undefined) unbounded.push(path);
      if (schema.additionalProperties && schema.maxProperties === undefined) unbounded.push(path);
      if (schema.type === 'integer' && schema.minimum === undefined) unbounded.push(path);
    });
    assert.deepEqual(unbounded, []);
  });

  test(`every list of ${kind.kind} says how it merges under server-side apply`, () => {
    const silent: string[] = [];
    walk(schemaOf(kind), kind.singular, (schema, path) => {
      if (schema.type === 'array' && schema['x-kubernetes-list-type'] === undefined) silent.push(path);
    });
    assert.deepEqual(silent, []);
  });

  test(`every kind, such as ${kind.kind}, has a status subresource and the category meridian`, () => {
    const { spec } = customResourceDefinition(kind);
    assert.deepEqual(spec.names.categories, ['meridian']);
    assert.deepEqual(spec.versions[0]?.subresources.status, {});
  });
}

test('docs/resources.md is up to date (else: npm run crds)', () => {
  assert.equal(readFileSync(resourcesPath, 'utf8'), resourcesPage(kinds));
});

test('only RegionalReplica can be scaled', () => {
  const scaled = kinds.filter(({ scale }) => scale !== undefined).map(({ kind }) => kind);
  assert.deepEqual(scaled, ['RegionalReplica']);
});

test('a schema that has no structural form is an error, not a constraint lost', () => {
  assert.throws(() => structural(z.tuple([z.string()]), 'x'), /nothing known about/);
  assert.throws(() => structural(z.union([z.string(), z.boolean()]), 'x'), /nothing known about/);
  assert.throws(() => structural(z.string().nullable(), 'x'), /x: nullable/);
});
