/** Walking a parse tree whatever its nodes are: nothing in it is missed for not being known. */

/** The values of an object or an array that are objects or arrays themselves. */
export function children(node: object): object[] {
  const found: object[] = [];
  for (const value of Array.isArray(node) ? (node as unknown[]) : Object.values(node))
    if (typeof value === 'object' && value !== null) found.push(value);
  return found;
}
