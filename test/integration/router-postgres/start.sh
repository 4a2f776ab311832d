#!/bin/bash
# Starts a primary, or a follower where PRIMARY names one. Certificates come in as files under /etc/meridian/tls.
set -eu
export PGDATA=/tmp/pgdata
tls=/tmp/tls
install -d -m 0700 "$tls" && cp /etc/meridian/tls/* "$tls"/ && chmod 0600 "$tls"/*
if [ -s "$PGDATA/PG_VERSION" ]; then
  echo "as it was left"
elif [ -n "${PRIMARY:-}" ]; then
  until pg_basebackup -D "$PGDATA" -h "$PRIMARY" -U meridian_replication -c fast -R 2>/tmp/basebackup.log; do rm -rf "$PGDATA"; sleep 0.2; done
else
  initdb -U meridian_agent -E UTF8 --locale=C.UTF-8 --data-checksums >/tmp/initdb.log
  cat >"$PGDATA/pg_hba.conf" <<'HBA'
local all all trust
hostssl all meridian_operator all cert map=meridian
hostssl all meridian_router all cert map=meridian
hostssl all +meridian_application all cert map=meridian
host replication meridian_replication all trust
HBA
  cat >"$PGDATA/pg_ident.conf" <<'IDENT'
meridian meridian-operator meridian_operator
meridian meridian-router meridian_router
meridian meridian-router +meridian_application
IDENT
  cat >>"$PGDATA/postgresql.conf" <<CONF
listen_addresses = '*'
ssl = on
ssl_cert_file = '$tls/tls.crt'
ssl_key_file = '$tls/tls.key'
ssl_ca_file = '$tls/ca.crt'
unix_socket_directories = '/tmp'
max_connections = 200
wal_level = logical
fsync = off
jit = off
lc_messages = C
CONF
  postgres --single -D "$PGDATA" -j postgres </etc/meridian/tls/bootstrap.sql >/tmp/bootstrap.log
fi
exec postgres -D "$PGDATA"
