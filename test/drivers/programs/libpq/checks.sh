#!/bin/bash
# psql, pgbench and pg_dump of the Postgres image; libpq's own environment says where the router is. See test/drivers/report.ts.
export LC_ALL=C.UTF-8
first=$((DRIVER_NUMBER * 1000000))
fail() { echo "$*" >&2; exit 1; }
expect() { [ "$1" = "$2" ] || fail "expected '$1', got '${2:0:200}'"; }
sql() { psql -X -At -v ON_ERROR_STOP=1 -c "$@"; }

tls() {
  expect 1 "$(sql 'select 1')"
  expect 1 "$(PGSSLNEGOTIATION=direct sql 'select 1')"
  expect 1 "$(PGCHANNELBINDING=require sql 'select 1')"
  expect 1 "$(PGSSLMINPROTOCOLVERSION=TLSv1.3 sql 'select 1')"
  PGSSLMODE=disable sql 'select 1' 2>&1 | grep -q 'encrypted connections only' || fail 'let in without TLS'
  PGSSLROOTCERT=/etc/ssl/none sql 'select 1' >/dev/null 2>&1 && fail 'an authority that is not there'
  true
}
values() {
  expect 'héllo|7|{1,2}|' "$(sql "select 'héllo', 7::bigint, array[1,2], null")"
  expect 'b|2' "$(psql -X -At <<<'select $1::text, $2::int \bind b 2 \g')"
  psql -X -c '\d accounts' -c '\dt' -c '\df' -c '\du' -c '\l' -c '\dp' -c '\dx' >/tmp/described 2>&1 || fail "$(cat /tmp/described)"
  grep -q 'balance.*bigint' /tmp/described || fail "$(head -c 300 /tmp/described)"
  expect 'x|integer' "$(psql -X -At <<<'select 1 as x \gdesc')"
}
prepared() {
  printf '\\set n random(1, 100)\nselect :n::int + 1;\n' >/tmp/prepared.sql
  pgbench -n -M prepared -f /tmp/prepared.sql -c 8 -t 100 >/tmp/out 2>&1 || fail "$(cat /tmp/out)"
  grep -q 'processed: 800/800' /tmp/out || fail "$(cat /tmp/out)"
}
binary() {
  psql -X -c "copy (select 258::int4) to stdout (format binary)" | od -An -tx1 | tr -d ' \n' | grep -q '00010000000400000102' || fail 'out'
  psql -X -c "copy (select 'acme'::text, n::bigint from generate_series($first + 20100, $first + 20199) n) to stdout (format binary)" >/tmp/binary
  psql -X -c "\\copy accounts (tenant_id, id) from '/tmp/binary' (format binary)" >/tmp/out 2>&1 || fail "$(cat /tmp/out)"
  expect 100 "$(sql "select count(*) from accounts where id between $first + 20100 and $first + 20199")"
}
tenants() {
  for tenant in acme bolt; do
    PGUSER=any_app sql "insert into accounts (tenant_id, id) values ('$tenant', $first + 20000), ('$tenant', $first + 20001)" >/dev/null
    expect 2 "$(PGUSER=any_app PGOPTIONS="-c meridian.tenant=$tenant" sql "select count(*) from accounts where id between $first + 20000 and $first + 20009")"
    expect "$tenant" "$(PGUSER=any_app psql -X -At <<<"select min(tenant_id) from accounts where tenant_id = \$1 \bind $tenant \g")"
    expect "$tenant" "$(PGUSER=any_app PGOPTIONS="-c meridian.tenant=$tenant" sql 'select min(tenant_id) from accounts')"
  done
  PGUSER=any_app psql -X -v VERBOSITY=sqlstate -c 'select count(*) from accounts' 2>&1 | grep -q MD003 || fail 'without a tenant'
}
errors() {
  psql -X -v VERBOSITY=verbose -c "select fail('boom')" >/tmp/out 2>&1
  for word in 'P0042: boom' 'DETAIL:  the detail' 'HINT:  the hint' 'TABLE NAME:  accounts'; do grep -q "$word" /tmp/out || fail "$(cat /tmp/out)"; done
  psql -X -v VERBOSITY=verbose -c 'select * frm accounts' >/tmp/out 2>&1
  for word in 42601 'LINE 1' '^  *^'; do grep -q "$word" /tmp/out || fail "$(cat /tmp/out)"; done
  expect 7 "$(psql -X -At 2>/dev/null <<<"select 1 / 0; select * from accounts where tenant_id = 'bolt'; select 7;")"
}
notices() {
  psql -X -c "do \$\$ begin raise warning 'hear this' using hint = 'soon'; end \$\$" 2>&1 | tr '\n' ' ' | grep -q 'WARNING:  hear this HINT:  soon' || fail 'not heard'
}
listen() {
  psql -X >/tmp/out 2>&1 <<<"listen \"Orders\"; notify \"Orders\", 'seven';" || fail "$(cat /tmp/out)"
  grep -q 'Asynchronous notification "Orders" with payload "seven" received' /tmp/out || fail "$(cat /tmp/out)"
}
transaction() {
  sql "insert into accounts (tenant_id, id) select 'acme', n from generate_series($first + 100000, $first + 100099) n" >/dev/null
  cat >/tmp/transaction.sql <<SQL
\\set a random($first + 100000, $first + 100099)
\\set b random($first + 100000, $first + 100099)
\\set low least(:a, :b)
\\set high greatest(:a, :b)
begin;
update accounts set balance = balance - 1 where tenant_id = 'acme' and id = :low;
update accounts set balance = balance + 1 where tenant_id = 'acme' and id = :high;
commit;
SQL
  pgbench -n -M extended -f /tmp/transaction.sql -c 4 -t 50 >/tmp/out 2>&1 || fail "$(cat /tmp/out)"
  expect 0 "$(sql "select sum(balance) from accounts where tenant_id = 'acme' and id between $first + 100000 and $first + 100099")"
  psql -X -v VERBOSITY=sqlstate -c "insert into accounts (tenant_id, id) values ('acme', $first + 100000)" 2>&1 | grep -q 23505 || fail 'twice'
}
cursor() {
  expect 1000 "$(psql -X -At -v FETCH_COUNT=300 -c 'select n from generate_series(1, 1000) n' | wc -l)"
}
pipeline() {
  printf '\\startpipeline\nselect 1;\nselect 2;\nselect 3;\n\\endpipeline\n' >/tmp/pipeline.sql
  pgbench -n -M extended -f /tmp/pipeline.sql -c 4 -t 100 >/tmp/out 2>&1 || fail "$(cat /tmp/out)"
  grep -q 'failed transactions: 0' /tmp/out || fail "$(cat /tmp/out)"
}
copy_out() {
  expect 5005000 "$(sql "copy (select repeat('x', 1000) from generate_series(1, 5000)) to stdout" | wc -c)"
}
copy_in() {
  seq $((first + 1000)) $((first + 3999)) | sed 's/^/acme\t/' >/tmp/rows
  psql -X -v ON_ERROR_STOP=1 -c "\\copy accounts (tenant_id, id) from '/tmp/rows'" >/tmp/out 2>&1 || fail "$(cat /tmp/out)"
  expect 3000 "$(sql "select count(*) from accounts where id >= $first + 1000 and id < $first + 10000")"
}
cancel() {
  timeout -s INT 1 psql -X -c 'select pg_sleep(60)' >/tmp/out 2>&1
  grep -q 'canceling statement due to user request' /tmp/out || fail "$(cat /tmp/out)"
}
big_rows() {
  expect 52428801 "$(sql "select repeat('x', 50 * 1024 * 1024)" | wc -c)"
}
many_columns() {
  wide="select 0::int as c0$(seq 1 999 | sed 's/.*/, &::int as c&/' | tr -d '\n')"
  expect 1000 "$(psql -X -At -R, -F, -c "$wide" | tr ',' '\n' | wc -l)"
}
dump() {
  mine=$(sql "select count(*) from accounts where tenant_id = 'acme'")
  # Where a sequence is isn't an application's to know here.
  pg_dump --enable-row-security --table accounts --table notes --exclude-table-data 'notes_id_seq' --no-owner >/tmp/dump.sql 2>/tmp/out || fail "$(cat /tmp/out)"
  expect "$mine" "$(sed -n '/^COPY public.accounts /,/^\\\.$/p' /tmp/dump.sql | grep -c '^acme')"
  grep -q 'CREATE TABLE public.notes' /tmp/dump.sql || fail 'no table'
  grep -q '^bolt' /tmp/dump.sql && fail 'rows of another tenant'
  # And back again, as its owner would restore it.
  pg_dump --enable-row-security --data-only --table accounts >/tmp/data.sql 2>/tmp/out || fail "$(cat /tmp/out)"
  sql "delete from accounts where tenant_id = 'acme'" >/dev/null
  psql -X -v ON_ERROR_STOP=1 -f /tmp/data.sql >/tmp/out 2>&1 || fail "$(cat /tmp/out)"
  expect "$mine" "$(sql "select count(*) from accounts where tenant_id = 'acme'")"
}

check() {
  if text=$("$2" 2>&1); then printf 'CHECK\t%s\tok\t\n' "$1"; else printf 'CHECK\t%s\tfailed\t%s\n' "$1" "$(tr -s '[:space:]' ' ' <<<"$text")"; fi
}
check tls tls
check values values
# It asks for text only, but for COPY.
check binary binary
check prepared prepared
check tenants tenants
check transaction transaction
check errors errors
check notices notices
check listen listen
check cursor cursor
check pipeline pipeline
check 'copy out' copy_out
check 'copy in' copy_in
check cancel cancel
check 'big rows' big_rows
check 'many columns' many_columns
check pg_dump dump
