/**
 * `docs/resources.md`: every field of every kind in tables, made from the same schemas as the CRDs.
 */
import type { Kind } from './kind.ts';
import { ownedParameters } from './postgres.ts';
import { type Structural, structural } from './structural.ts';

interface Field {
  readonly path: string;
  readonly schema: Structural;
  readonly isRequired: boolean;
}

function fieldsOf(schema: Structural, path: string): Field[] {
  const { properties = {}, required = [] } = schema;
  return Object.entries(properties).flatMap(([name, inner]): Field[] => {
    const field = { path: `${path}${name}`, schema: inner, isRequired: required.includes(name) };
    if (inner.items?.properties) return [field, ...fieldsOf(inner.items, `${field.path}[].`)];
    return [field, ...fieldsOf(inner, `${field.path}.`)];
  });
}

function typeOf(schema: Structural): string {
  if (schema.enum) return schema.enum.map((value) => `\`${String(value)}\``).join(', ');
  if (schema['x-kubernetes-int-or-string'] === true) return 'quantity';
  if (schema.items) return `list of ${schema.items.properties ? 'objects' : typeOf(schema.items)}`;
  if (schema.additionalProperties) return `map of ${typeOf(schema.additionalProperties)}`;
  return schema.format === 'date-time' ? 'time' : (schema.type ?? '');
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

const row = ({ path, schema, isRequired }: Field): string =>
  `| \`${path}\`${isRequired ? ' **required**' : ''} | ${cell(typeOf(schema))} | ${cell(schema.description ?? '')} |`;

function table(schema: Structural, path: string): string {
  return ['| field | type | meaning |', '|---|---|---|', ...fieldsOf(schema, `${path}.`).map(row)].join('\n');
}

interface RuleAt {
  readonly path: string;
  readonly message: string;
}

function rulesOf(schema: Structural, path: string): RuleAt[] {
  const own = (schema['x-kubernetes-validations'] ?? []) as { message: string }[];
  return [
    ...own.map(({ message }) => ({ path, message })),
    ...Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => rulesOf(inner, `${path}.${name}`)),
    ...(schema.items ? rulesOf(schema.items, `${path}[]`) : []),
  ];
}

/** One line for each message, with the fields that say it. */
function refusals(rules: readonly RuleAt[]): string {
  const messages = new Map<string, string[]>();
  for (const { path, message } of rules) messages.set(message, [...(messages.get(message) ?? []), `\`${path}\``]);
  return [...messages].map(([message, paths]) => `- ${paths.join(', ')}: ${message}`).join('\n');
}

function section(kind: Kind): string {
  const spec = structural(kind.spec, 'spec');
  const rules = [...(kind.rules ?? []).map(({ message }) => ({ path: kind.kind, message })), ...rulesOf(spec, 'spec')];
  return `## ${kind.kind}

${kind.description}

\`kubectl get ${kind.plural}\` (short: \`${kind.shortNames.join('`, `')}\`). The name has ${kind.nameLimit} characters at most.

### spec

${table(spec, 'spec')}

Refused by the API server, in its words:

${refusals(rules)}

### status

${table(structural(kind.status, 'status'), 'status')}
`;
}

/** The text of `docs/resources.md`. */
export const resourcesPage = (
  kinds: readonly Kind[],
): string => `<!-- Made from crds/*.ts by \`npm run crds\`: change those, not this. -->
# Resources

Everything is namespaced, in the API group \`meridian.db/v1alpha1\` and the category \`meridian\` (\`kubectl get meridian\`).
What one object alone shows is wrong is refused when it is applied; what depends on other objects becomes a condition,
since objects may arrive in any order. \`kubectl explain shard.spec.durability\` says the same as these tables.

${kinds.map(section).join('\n')}
## Settings of Postgres that are Meridian's own

\`Shard.spec.postgres.parameters\` takes any setting but these, since authority, replication, ownership or access rest on
them: everything that begins with \`ssl\` or \`meridian.\`, and ${ownedParameters.map((name) => `\`${name}\``).join(', ')}.
`;
