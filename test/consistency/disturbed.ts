/** What goes on while histories are made, and is over when they are. */

export interface Disturbance {
  start(): Promise<void>;
  /** Rejects where it went wrong. */
  stop(): Promise<void>;
}

export async function disturbed<T>(disturbances: readonly Disturbance[], work: () => Promise<T>): Promise<T> {
  try {
    for (const disturbance of disturbances) await disturbance.start();
    return await work();
  } finally {
    await Promise.all(disturbances.map((disturbance) => disturbance.stop()));
  }
}
