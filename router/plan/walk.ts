/** Walking a parse tree whatever its nodes are: nothing in it is missed for not being known. */

/** Calls `visit` with each object or array directly inside of the node. */
export function forEachChild(node: object, visit: (child: object) => void): void {
  if (Array.isArray(node)) {
    for (const value of node as unknown[]) if (typeof value === 'object' && value !== null) visit(value);
    return;
  }
  for (const key in node) {
    const value: unknown = (node as Record<string, unknown>)[key];
    if (typeof value === 'object' && value !== null) visit(value);
  }
}

/** Whether any object in the tree matches. */
export function contains(node: object | undefined, matches: (node: object) => boolean): boolean {
  if (node === undefined) return false;
  if (matches(node)) return true;
  let isFound = false;
  forEachChild(node, (child) => {
    isFound ||= contains(child, matches);
  });
  return isFound;
}
