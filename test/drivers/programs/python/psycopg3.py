"""psycopg 3."""
import asyncio
import os
import threading

import psycopg
from psycopg import errors
from report import CA, FIRST_ID, ROW_BYTES, WIDE, report


def connect(**more):
    return psycopg.connect(**{"autocommit": True, **more})


def expect(kind, work):
    try:
        work()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def tls():
    with connect() as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("select 1").fetchone() == (1,)
    for more in ({"channel_binding": "require"}, {"sslnegotiation": "direct"}, {"min_protocol_version": "3.2", "max_protocol_version": "3.2"}):
        with connect(**more) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    expect(psycopg.OperationalError, lambda: connect(sslrootcert="/nowhere"))
    assert "encrypted" in str(expect(psycopg.OperationalError, lambda: connect(sslmode="disable")))


def values():
    from datetime import datetime, timezone
    from decimal import Decimal
    from uuid import UUID

    sent = ["héllo", 7, 2**40, Decimal("1.5"), datetime(2026, 1, 1, tzinfo=timezone.utc), b"\0\xff", UUID(int=5), None, [1, 2], True, 1.5]
    with connect() as connection:
        for binary in (False, True):
            got = connection.execute("select " + ", ".join(["%s"] * len(sent)), sent, binary=binary).fetchone()
            assert list(got) == sent, got


def binary():
    with connect() as connection:
        with connection.cursor(binary=True) as cursor:
            assert cursor.execute("select %b::int4, %b::bytea", (258, b"\1\0\xff")).fetchone() == (258, b"\1\0\xff")


def prepared():
    connections = [connect(prepare_threshold=2) for _ in range(4)]
    for n in range(100):
        for connection in connections:
            assert connection.execute("select %s::int + 1", (n,)).fetchone() == (n + 1,)
    for connection in connections:
        connection.close()


def add(connection, number):
    connection.execute("insert into accounts (tenant_id, id) values ('acme', %s)", (number,))


def transaction():
    with connect(autocommit=False) as connection:
        add(connection, FIRST_ID)
        with expect_context(errors.UniqueViolation):
            with connection.transaction():
                add(connection, FIRST_ID)
        connection.commit()
        add(connection, FIRST_ID + 1)
        connection.rollback()
        rows = connection.execute("select id from accounts where id between %s and %s", (FIRST_ID, FIRST_ID + 9)).fetchall()
        assert rows == [(FIRST_ID,)], rows


class expect_context:
    def __init__(self, kind):
        self.kind = kind

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _trace):
        assert kind is not None and issubclass(kind, self.kind), kind
        return True


COUNTED = "select count(*) from accounts where tenant_id = %s and id between %s and %s"


def tenants():
    with connect(user="any_app", prepare_threshold=2) as connection:
        for tenant in ("acme", "bolt"):
            ids = (FIRST_ID + 20_000, FIRST_ID + 20_001)
            connection.cursor().executemany("insert into accounts (tenant_id, id) values (%s, %s)", [(tenant, one) for one in ids])
            for _ in range(5):
                assert connection.execute(COUNTED, (tenant, FIRST_ID + 20_000, FIRST_ID + 20_009)).fetchone() == (2,)
        error = expect(psycopg.Error, lambda: connection.execute("select count(*) from accounts"))
        assert error.sqlstate == "MD003", error.sqlstate
        connection.execute("set meridian.tenant = 'bolt'")
        assert connection.execute("select min(tenant_id) from accounts").fetchone() == ("bolt",)


def failures():
    with connect() as connection:
        raised = expect(psycopg.Error, lambda: connection.execute("select fail('boom')"))
        said = raised.diag
        found = (raised.sqlstate, said.message_primary, said.message_detail, said.message_hint, said.table_name)
        assert found == ("P0042", "boom", "the detail", "the hint", "accounts"), found
        wrong = expect(errors.SyntaxError, lambda: connection.execute("select * frm accounts"))
        assert wrong.diag.statement_position == "10", wrong.diag.statement_position
        other = expect(psycopg.Error, lambda: connection.execute("select * from accounts where tenant_id = %s", ("bolt",)))
        assert other.sqlstate == "MD004", other.sqlstate
        assert connection.execute("select 7").fetchone() == (7,)


def notices():
    heard = []
    with connect() as connection:
        connection.add_notice_handler(lambda said: heard.append((said.severity, said.message_primary, said.message_hint)))
        connection.execute("do $$ begin raise warning 'hear this' using hint = 'soon'; end $$")
    assert heard == [("WARNING", "hear this", "soon")], heard


def listen():
    with connect() as connection, connect() as other:
        connection.execute('listen "Orders"')
        other.execute("notify \"Orders\", 'seven'")
        heard = [(one.channel, one.payload) for one in connection.notifies(timeout=30, stop_after=1)]
        assert heard == [("Orders", "seven")], heard
        connection.execute("unlisten *")


def cursor():
    with connect(autocommit=False) as connection:
        with connection.cursor("c") as named:
            named.itersize = 300
            named.execute("select n from generate_series(1, 1000) n")
            assert sum(row[0] for row in named) == 500_500
    with connect() as connection:
        assert sum(row[0] for row in connection.cursor().stream("select n from generate_series(1, 1000) n")) == 500_500


def pipeline():
    with connect() as connection:
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (n,)) for n in range(500)]
            for n, one in enumerate(cursors):
                assert one.fetchone() == (n,)
        for _ in range(3):
            with expect_context(errors.DivisionByZero):
                with connection.pipeline() as pipeline:
                    add(connection, FIRST_ID + 5)
                    connection.execute("select 1 / %s::int", (0,))
                    pipeline.sync()
        assert connection.execute("select count(*) from accounts where id = %s", (FIRST_ID + 5,)).fetchone() == (0,)


def copy_out():
    with connect() as connection:
        for form in ("text", "binary"):
            with connection.cursor().copy(f"copy (select repeat('x', 1000) from generate_series(1, 5000)) to stdout (format {form})") as copy:
                assert sum(len(chunk) for chunk in copy) > 5_000_000
            assert connection.execute("select 3").fetchone() == (3,)


def copy_in():
    with connect() as connection:
        with connection.cursor().copy("copy accounts (tenant_id, id, owner) from stdin") as copy:
            for n in range(3000):
                copy.write_row(("acme", FIRST_ID + 1000 + n, "tab\there\\ \n"))
        count = connection.execute("select count(*), max(owner) from accounts where id >= %s and id < %s", (FIRST_ID + 1000, FIRST_ID + 10_000)).fetchone()
        assert count == (3000, "tab\there\\ \n"), count
        with connection.cursor().copy("copy accounts (tenant_id, id, owner) from stdin (format binary)") as copy:
            copy.set_types(["text", "int8", "text"])
            for n in range(1000):
                copy.write_row(("acme", FIRST_ID + 10_000 + n, "b"))
        count = connection.execute("select count(*) from accounts where id >= %s and id < %s", (FIRST_ID + 10_000, FIRST_ID + 20_000)).fetchone()
        assert count == (1000,), count


def cancel():
    with connect(max_protocol_version="3.2") as connection:
        for way in (connection.cancel_safe, connection.cancel):
            timer = threading.Timer(0.3, way)
            timer.start()
            expect(errors.QueryCanceled, lambda: connection.execute("select pg_sleep(60)"))
            timer.join()
            assert connection.execute("select 4").fetchone() == (4,)


def big_rows():
    with connect() as connection:
        for binary in (False, True):
            row = connection.execute("select repeat('x', %s), length(%s::text)", (ROW_BYTES, "y" * ROW_BYTES), binary=binary).fetchone()
            assert len(row[0]) == ROW_BYTES and row[1] == ROW_BYTES


def many_columns():
    with connect() as connection:
        for binary in (False, True):
            row = connection.execute(WIDE, binary=binary).fetchone()
            assert row == tuple(range(1000))


os.environ["PGSSLMODE"] = "verify-full"
asyncio.run(
    report(
        {
            "tls": tls,
            "values": values,
            "binary": binary,
            "prepared": prepared,
            "tenants": tenants,
            "transaction": transaction,
            "errors": failures,
            "notices": notices,
            "listen": listen,
            "cursor": cursor,
            "pipeline": pipeline,
            "copy out": copy_out,
            "copy in": copy_in,
            "cancel": cancel,
            "big rows": big_rows,
            "many columns": many_columns,
        }
    )
)
