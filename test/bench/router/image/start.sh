#!/bin/bash
# Starts Postgres and PgBouncer on the machine's own loopback, data in memory. Ports, certificates and the router's roles come in as
# files under /etc/bench. Nobody on loopback is asked for a password by Postgres: what is measured is what lies between.
set -eu
export PGDATA=/var/tmp/pgdata
. /etc/bench/settings
tls=/tmp/tls
install -d -m 0700 "$tls" && cp /etc/bench/*.crt /etc/bench/*.key "$tls"/ && chmod 0600 "$tls"/*
initdb -U meridian_agent -E UTF8 --locale=C.UTF-8 --no-sync >/tmp/initdb.log
cat >"$PGDATA/pg_hba.conf" <<'HBA'
local all all trust
hostssl all meridian_operator all cert map=meridian
hostssl all meridian_router all cert map=meridian
hostnossl all all 127.0.0.1/32 trust
hostssl all +meridian_application 127.0.0.1/32 trust
HBA
cat >"$PGDATA/pg_ident.conf" <<'IDENT'
meridian meridian-operator meridian_operator
meridian meridian-router meridian_router
meridian meridian-router +meridian_application
IDENT
cat >>"$PGDATA/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $POSTGRES_PORT
ssl = on
ssl_cert_file = '$tls/tls.crt'
ssl_key_file = '$tls/tls.key'
ssl_ca_file = '$tls/ca.crt'
unix_socket_directories = '/tmp'
max_connections = $MAX_CONNECTIONS
shared_buffers = '256MB'
fsync = off
synchronous_commit = off
max_wal_size = '2GB'
autovacuum = off
jit = off
lc_messages = C
CONF
postgres --single -D "$PGDATA" -j postgres </etc/bench/bootstrap.sql >/tmp/bootstrap.log
cat >/tmp/pgbouncer.ini <<CONF
[databases]
* = host=127.0.0.1 port=$POSTGRES_PORT
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $PGBOUNCER_PORT
unix_socket_dir =
auth_type = trust
auth_file = /tmp/users.txt
pool_mode = transaction
default_pool_size = $POOL_SIZE
max_client_conn = 12000
max_prepared_statements = 200
server_tls_sslmode = disable
ignore_startup_parameters = extra_float_digits,options
logfile = /tmp/pgbouncer.log
pidfile = /tmp/pgbouncer.pid
CONF
for user in $USERS; do echo "\"$user\" \"\""; done >/tmp/users.txt
pgbouncer -d /tmp/pgbouncer.ini
exec postgres -D "$PGDATA"
