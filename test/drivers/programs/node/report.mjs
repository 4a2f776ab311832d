// Runs the checks of one driver, one after the other, and prints a line for each: see test/drivers/report.ts.
const line = (...fields) =>
  process.stdout.write(`CHECK\t${fields.map((text) => String(text).replace(/\s+/g, ' ')).join('\t')}\n`);

export async function report(checks) {
  for (const [name, check] of Object.entries(checks)) {
    if (typeof check === 'string') line(name, 'cannot', check);
    else
      await check().then(
        () => line(name, 'ok', ''),
        (error) => line(name, 'failed', error?.stack ?? error),
      );
  }
  process.exit(0);
}

export const rowBytes = 50 * 1024 * 1024;
export const wide = `select ${Array.from({ length: 1000 }, (_, n) => `${n}::int as c${n}`).join(', ')}`;
export const ca = process.env.PGSSLROOTCERT;
/** Rows of this driver's own: each has a range of ids. */
export const firstId = Number(process.env.DRIVER_NUMBER) * 1_000_000;
