/**
 * The words of the admin database: SHOW, PAUSE, RESUME, RECONNECT, RELOAD as PgBouncer has them ("Admin console"). Pure.
 */
export const shows = [
  'help',
  'pools',
  'clients',
  'servers',
  'stats',
  'stats_totals',
  'stats_averages',
  'totals',
  'routes',
  'tenants',
  'members',
  'databases',
  'users',
  'lists',
  'config',
  'state',
  'version',
] as const;
export type Show = (typeof shows)[number];

export const actions = ['pause', 'resume', 'reconnect', 'reload'] as const;
export type Action = (typeof actions)[number];

export type Command =
  | { readonly kind: 'empty' }
  | { readonly kind: 'show'; readonly show: Show }
  | { readonly kind: 'action'; readonly action: Action; readonly database: string | undefined }
  /** Said by drivers when they connect; it changes nothing. */
  | { readonly kind: 'set' }
  | { readonly kind: 'unknown'; readonly text: string };

const word = String.raw`(?:"(?<quoted>(?:[^"]|"")+)"|(?<plain>[\p{L}_][\p{L}\p{N}_$-]*))`;
const actionForm = new RegExp(String.raw`^(?<verb>\p{L}+)(?:\s+${word})?$`, 'u');

/** One command of a query's text; comments aren't commands. */
export function readCommand(text: string): Command {
  const trimmed = text.trim();
  if (trimmed === '') return { kind: 'empty' };
  const shown = /^show\s+(\w+)$/i.exec(trimmed)?.[1]?.toLowerCase();
  const show = shows.find((one) => one === shown);
  if (show !== undefined) return { kind: 'show', show };
  if (/^set\s+\S/i.test(trimmed)) return { kind: 'set' };
  const groups = actionForm.exec(trimmed)?.groups;
  const verb = groups?.['verb']?.toLowerCase();
  const action = actions.find((one) => one === verb);
  if (action === undefined) return { kind: 'unknown', text: trimmed };
  return { kind: 'action', action, database: groups?.['quoted']?.replaceAll('""', '"') ?? groups?.['plain'] };
}

/** The commands of a query, which semicolons part. */
export const readCommands = (text: string): readonly Command[] => {
  const parts = text.replaceAll(/--[^\n]*|\/\*[\s\S]*?\*\//g, ' ').split(';');
  const commands = parts.map(readCommand).filter(({ kind }) => kind !== 'empty');
  return commands.length === 0 ? [{ kind: 'empty' }] : commands;
};
