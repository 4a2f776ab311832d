// Run by `helm test`: every operator pod is ready, and exactly one of them leads.
import { lookup } from 'node:dns/promises';

const service = process.env.OPERATOR_SERVICE;
const deadline = Date.now() + 60_000;

async function look() {
  // Not resolve4: that leaves out the search domains of a pod.
  const addresses = await lookup(service, { all: true });
  let leaders = 0;
  for (const { address, family } of addresses) {
    const host = family === 6 ? `[${address}]` : address;
    const ready = await fetch(`http://${host}:8080/readyz`, { signal: AbortSignal.timeout(3_000) });
    if (!ready.ok) throw new Error(`${address}: ${(await ready.text()).trim()}`);
    const metrics = await fetch(`http://${host}:8080/metrics`, { signal: AbortSignal.timeout(3_000) });
    if (/^meridian_leader 1$/m.test(await metrics.text())) leaders += 1;
  }
  if (leaders !== 1) throw new Error(`${leaders} of ${addresses.length} operators lead`);
  return addresses.length;
}

for (;;) {
  try {
    console.log(`${await look()} operators are ready, one leads`);
    break;
  } catch (error) {
    if (Date.now() > deadline) {
      console.error(error.message);
      process.exit(1);
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}
