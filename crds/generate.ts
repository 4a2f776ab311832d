/**
 * Writes the CRD of each kind as `crds/<kind>.yaml`, and `docs/resources.md`, from the kinds' Zod schemas (`npm run crds`).
 * The YAML is committed so that `kubectl apply -f crds/` works from a checkout; a test fails when it is stale.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { apiGroup, apiVersion } from '#core/names.ts';
import { kinds } from './index.ts';
import type { Kind } from './kind.ts';
import { resourcesPage } from './reference.ts';
import { validationsKey } from './rule.ts';
import { type Structural, structural } from './structural.ts';

/** The CustomResourceDefinition of a kind, as data. */
export function customResourceDefinition(kind: Kind) {
  const schema: Structural = {
    description: kind.description,
    type: 'object',
    required: ['spec'],
    properties: {
      apiVersion: { type: 'string', description: `The version of the API: ${kind.apiVersion}.` },
      kind: { type: 'string', description: `The kind: ${kind.kind}.` },
      metadata: { type: 'object', properties: { name: { type: 'string', maxLength: kind.nameLimit } } },
      spec: structural(kind.spec, 'spec'),
      status: structural(kind.status, 'status'),
    },
    [validationsKey]: (kind.rules ?? []).map(({ cel, message }) => ({ rule: cel, message })),
  };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: kind.crdName },
    spec: {
      group: apiGroup,
      scope: 'Namespaced',
      names: {
        kind: kind.kind,
        listKind: kind.listKind,
        plural: kind.plural,
        singular: kind.singular,
        shortNames: kind.shortNames,
        categories: ['meridian'],
      },
      versions: [
        {
          name: apiVersion,
          served: true,
          storage: true,
          additionalPrinterColumns: kind.printerColumns,
          subresources: { status: {}, ...(kind.scale && { scale: kind.scale }) },
          schema: { openAPIV3Schema: schema },
        },
      ],
    },
  };
}

const heading = (kind: Kind) =>
  `# Made from crds/${kind.singular}.ts by \`npm run crds\`: change that file, not this one.\n`;

/** The text of `crds/<kind>.yaml`. */
export const customResourceDefinitionYaml = (kind: Kind): string =>
  heading(kind) + stringify(customResourceDefinition(kind), { lineWidth: 120, aliasDuplicateObjects: false });

export const resourcesPath = fileURLToPath(new URL('../docs/resources.md', import.meta.url));

export const yamlPath = (kind: Kind): string => fileURLToPath(new URL(`${kind.singular}.yaml`, import.meta.url));

if (import.meta.main) {
  for (const kind of kinds) {
    const text = customResourceDefinitionYaml(kind);
    writeFileSync(yamlPath(kind), text);
    console.log(`crds/${kind.singular}.yaml  ${(text.length / 1024).toFixed(1)} KiB`);
  }
  writeFileSync(resourcesPath, resourcesPage(kinds));
  console.log('docs/resources.md');
}
