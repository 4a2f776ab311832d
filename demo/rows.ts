/**
 * A shop's day for one tenant: products with stock, an order, its payment, and the ledger entry behind it, in one
 * transaction. Does nothing where the tenant has its first product already, so that the demo may be run again.
 */
import type pg from 'pg';

const products = [
  { sku: 'mug', name: 'Mug', priceCents: 1200, onHand: 40 },
  { sku: 'lamp', name: 'Lamp', priceCents: 5900, onHand: 12 },
  { sku: 'chair', name: 'Chair', priceCents: 14900, onHand: 5 },
] as const;

/** The client must be acting for `tenant` already. */
export async function fillShop(client: pg.Client, tenant: string): Promise<void> {
  await client.query('begin');
  const first = await client.query(
    'insert into settings (tenant_id, name, value) values ($1, $2, $3) on conflict do nothing',
    [tenant, 'greeting', JSON.stringify(`Welcome to ${tenant}`)],
  );
  if (first.rowCount === 1) await trade(client, tenant);
  await client.query('commit');
}

async function trade(client: pg.Client, tenant: string): Promise<void> {
  for (const product of products) {
    await client.query(
      'insert into products (tenant_id, sku, name, price_cents, currency) values ($1, $2, $3, $4, $5)',
      [tenant, product.sku, product.name, product.priceCents, 'EUR'],
    );
    await client.query('insert into stock (tenant_id, sku, warehouse, on_hand) values ($1, $2, $3, $4)', [
      tenant,
      product.sku,
      'main',
      product.onHand,
    ]);
  }
  const [bought] = products;
  const placed = await client.query<{ order_id: string }>(
    "insert into orders (tenant_id, customer, status, currency, total_cents) values ($1, $2, 'paid', 'EUR', $3) returning order_id",
    [tenant, 'Ada', bought.priceCents],
  );
  const order = placed.rows[0]?.order_id;
  await client.query(
    'insert into order_lines (tenant_id, order_id, line_number, sku, quantity, price_cents) values ($1, $2, 1, $3, 1, $4)',
    [tenant, order, bought.sku, bought.priceCents],
  );
  await client.query('update stock set on_hand = on_hand - 1 where tenant_id = $1 and sku = $2 and warehouse = $3', [
    tenant,
    bought.sku,
    'main',
  ]);
  await client.query(
    "insert into accounts (tenant_id, account, kind) values ($1, 'bank', 'asset'), ($1, 'sales', 'income')",
    [tenant],
  );
  const booked = await client.query<{ entry_id: string }>(
    'insert into journal_entries (tenant_id, description) values ($1, $2) returning entry_id',
    [tenant, `Order ${order}`],
  );
  const entry = booked.rows[0]?.entry_id;
  await client.query(
    "insert into postings (tenant_id, entry_id, line_number, account, amount_cents) values ($1, $2, 1, 'bank', $3), ($1, $2, 2, 'sales', -$3::bigint)",
    [tenant, entry, bought.priceCents],
  );
  await client.query(
    "insert into payments (tenant_id, order_id, entry_id, method, amount_cents, currency) values ($1, $2, $3, 'card', $4, 'EUR')",
    [tenant, order, entry, bought.priceCents],
  );
}
