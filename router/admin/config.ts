/** SHOW CONFIG: the router's own settings, without folders. What the keyspace says is in SHOW DATABASES, USERS and TENANTS. */
import { defaultTimes, type RouterSettings } from '../settings.ts';

export function configOf(settings: RouterSettings): (readonly [key: string, value: string, byDefault: string])[] {
  const { times, hold } = settings;
  const own: [string, string | number, string | number][] = [
    ['listen_addr', settings.address, '0.0.0.0'],
    ['listen_port', settings.port, 5432],
    ['region', settings.region, ''],
    ['workers', settings.workers ?? 1, 1],
    ['prepare_simple_queries', settings.parameters === false ? 'off' : 'on', 'on'],
    ['stats_period', 60, 60],
    ['query_wait_timeout', times.waitMs / 1_000, defaultTimes.waitMs / 1_000],
    ['client_login_timeout', times.authenticationMs / 1_000, defaultTimes.authenticationMs / 1_000],
    ['server_connect_timeout', times.connectMs / 1_000, defaultTimes.connectMs / 1_000],
    ['server_idle_timeout', times.backendIdleMs / 1_000, defaultTimes.backendIdleMs / 1_000],
    ['server_lifetime', times.backendLifetimeMs / 1_000, defaultTimes.backendLifetimeMs / 1_000],
    ['hold_transactions', hold.transactions, 1_000],
    ['hold_bytes', hold.bytes, 16 * 1024 * 1024],
    ['hold_seconds', hold.ms / 1_000, 15],
  ];
  return own.map(([key, value, byDefault]) => [key, String(value), String(byDefault)]);
}
