"""asyncpg, alone and with its pool, which resets each connection that comes back to it."""
import asyncio
import os
import ssl

import asyncpg
from report import CA, FIRST_ID, ROW_BYTES, WIDE, report


def context():
    return ssl.create_default_context(cafile=CA)


def connect(**more):
    return asyncpg.connect(**{"ssl": context(), "timeout": 60, **more})


def connected(work):
    async def run():
        connection = await connect()
        try:
            await work(connection)
        finally:
            await connection.close()

    return run


async def expect(kind, work):
    try:
        await work
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


async def tls():
    connection = await connect(direct_tls=False)
    assert await connection.fetchval("select 1") == 1
    await connection.close()
    connection = await connect(direct_tls=True, ssl=direct())
    assert await connection.fetchval("select 1") == 1
    await connection.close()
    await expect(ssl.SSLError, connect(ssl=ssl.create_default_context()))
    await expect(asyncpg.InvalidAuthorizationSpecificationError, connect(ssl=False))


def direct():
    named = context()
    named.set_alpn_protocols(["postgresql"])
    return named


async def values(connection):
    from datetime import datetime, timezone
    from decimal import Decimal
    from uuid import UUID

    types = ["text", "int4", "int8", "numeric", "timestamptz", "bytea", "uuid", "text", "int[]", "bool", "float8", "jsonb"]
    sent = ["héllo", 7, 2**40, Decimal("1.5"), datetime(2026, 1, 1, tzinfo=timezone.utc), b"\0\xff", UUID(int=5), None, [1, 2], True, 1.5, '{"a": 1}']
    got = await connection.fetchrow("select " + ", ".join(f"${n + 1}::{kind}" for n, kind in enumerate(types)), *sent)
    assert list(got) == sent, got
    assert await connection.fetchval("select row(1, 'x'::text)") == (1, "x")


async def binary(connection):
    assert await connection.fetchval("select $1::int4", 258) == 258
    assert await connection.fetchval("select array[row(1, now())]") is not None


async def prepared():
    async with asyncpg.create_pool(ssl=context(), min_size=4, max_size=4, timeout=60) as pool:

        async def plus(n):
            async with pool.acquire() as connection:
                assert await connection.fetchval("select $1::int + 1", n) == n + 1

        await asyncio.gather(*(plus(n) for n in range(300)))
        async with pool.acquire() as connection:
            await connection.execute("set application_name = 'mine'")
        async with pool.acquire() as connection:
            statement = await connection.prepare("select current_setting('application_name')")
            assert await statement.fetchval() != "mine"


async def add(connection, number):
    await connection.execute("insert into accounts (tenant_id, id) values ('acme', $1)", number)


async def transaction(connection):
    async with connection.transaction():
        await add(connection, FIRST_ID)

        async def again():
            async with connection.transaction():
                await add(connection, FIRST_ID)

        await expect(asyncpg.UniqueViolationError, again())
    undone = connection.transaction(isolation="repeatable_read")
    await undone.start()
    await add(connection, FIRST_ID + 1)
    await undone.rollback()
    rows = await connection.fetch("select id from accounts where id between $1 and $2", FIRST_ID, FIRST_ID + 9)
    assert [row["id"] for row in rows] == [FIRST_ID]


COUNTED = "select count(*) from accounts where tenant_id = $1 and id between $2 and $3"


async def tenants():
    async with asyncpg.create_pool(ssl=context(), min_size=2, max_size=2, timeout=60, user="any_app") as pool:
        for tenant in ("acme", "bolt"):
            async with pool.acquire() as connection:
                rows = [(tenant, FIRST_ID + 20_000), (tenant, FIRST_ID + 20_001)]
                await connection.executemany("insert into accounts (tenant_id, id) values ($1, $2)", rows)
            for _ in range(5):
                assert await pool.fetchval(COUNTED, tenant, FIRST_ID + 20_000, FIRST_ID + 20_009) == 2
        error = await expect(asyncpg.PostgresError, pool.fetchval("select count(*) from accounts"))
        assert error.sqlstate == "MD003", error.sqlstate
        async with pool.acquire() as connection:
            await connection.execute("set meridian.tenant = 'bolt'")
            assert await connection.fetchval("select min(tenant_id) from accounts") == "bolt"
        async with pool.acquire() as connection:
            assert await connection.fetchval("show meridian.tenant") == ""


async def failures(connection):
    raised = await expect(asyncpg.PostgresError, connection.fetchval("select fail('boom')"))
    found = (raised.sqlstate, raised.message, raised.detail, raised.hint, raised.table_name)
    assert found == ("P0042", "boom", "the detail", "the hint", "accounts"), found
    wrong = await expect(asyncpg.PostgresSyntaxError, connection.fetchval("select * frm accounts"))
    assert wrong.position == "10", wrong.position
    other = await expect(asyncpg.PostgresError, connection.fetch("select * from accounts where tenant_id = $1", "bolt"))
    assert other.sqlstate == "MD004", other.sqlstate
    assert await connection.fetchval("select 7") == 7


async def notices(connection):
    heard = []
    connection.add_log_listener(lambda _, said: heard.append((said.severity, said.message, said.hint)))
    await connection.execute("do $$ begin raise warning 'hear this' using hint = 'soon'; end $$")
    await asyncio.sleep(0)
    assert heard == [("WARNING", "hear this", "soon")], heard


async def listen(connection):
    heard = asyncio.get_running_loop().create_future()
    await connection.add_listener("Orders", lambda _connection, _pid, channel, payload: heard.set_result((channel, payload)))
    other = await connect()
    await other.execute("notify \"Orders\", 'seven'")
    await other.close()
    assert await asyncio.wait_for(heard, 30) == ("Orders", "seven")
    await connection.reset()


async def cursor(connection):
    async with connection.transaction():
        assert sum([row[0] async for row in connection.cursor("select n from generate_series(1, 1000) n", prefetch=64)]) == 500_500
        held = await connection.cursor("select n from generate_series(1, 1000) n")
        assert len(await held.fetch(300)) == 300
        await held.forward(100)
        assert (await held.fetchrow())[0] == 401


async def many(connection):
    await connection.executemany("insert into notes (tenant_id, body) values ('acme', $1)", [(f"many-{n}",) for n in range(500)])
    assert await connection.fetchval("select count(*) from notes where tenant_id = 'acme' and body like 'many-%'") == 500
    rows = [("good",), (None,)]
    await expect(asyncpg.NotNullViolationError, connection.executemany("insert into notes (tenant_id, body) values ('acme', $1)", rows))
    assert await connection.fetchval("select count(*) from notes where tenant_id = 'acme' and body = 'good'") == 0


async def copy_out(connection):
    for form in ("text", "binary", "csv"):
        total = 0

        async def take(chunk):
            nonlocal total
            total += len(chunk)

        await connection.copy_from_query("select repeat('x', 1000) from generate_series(1, 5000)", output=take, format=form)
        assert total > 5_000_000
        assert await connection.fetchval("select 3") == 3


async def copy_in(connection):
    async def lines():
        for n in range(3000):
            yield f"acme\t{FIRST_ID + 1000 + n}\n".encode()

    await connection.copy_to_table("accounts", source=lines(), columns=["tenant_id", "id"])
    assert await connection.fetchval("select count(*) from accounts where id >= $1 and id < $2", FIRST_ID + 1000, FIRST_ID + 10_000) == 3000
    records = [("acme", FIRST_ID + 10_000 + n) for n in range(1000)]
    await connection.copy_records_to_table("accounts", records=records, columns=["tenant_id", "id"])
    assert await connection.fetchval("select count(*) from accounts where id >= $1 and id < $2", FIRST_ID + 10_000, FIRST_ID + 20_000) == 1000


async def cancel(connection):
    await expect(asyncio.TimeoutError, connection.fetchval("select pg_sleep(60)", timeout=0.3))
    assert await connection.fetchval("select 4") == 4
    task = asyncio.create_task(connection.fetchval("select pg_sleep(60)"))
    await asyncio.sleep(0.3)
    task.cancel()
    await expect(asyncio.CancelledError, task)
    assert await connection.fetchval("select 5") == 5


async def big_rows(connection):
    row = await connection.fetchrow("select repeat('x', $1), length($2::text)", ROW_BYTES, "y" * ROW_BYTES)
    assert len(row[0]) == ROW_BYTES and row[1] == ROW_BYTES


async def many_columns(connection):
    assert list(await connection.fetchrow(WIDE)) == list(range(1000))


os.environ["PGSSLMODE"] = "verify-full"
asyncio.run(
    report(
        {
            "tls": tls,
            "values": connected(values),
            "binary": connected(binary),
            "prepared": prepared,
            "tenants": tenants,
            "transaction": connected(transaction),
            "errors": connected(failures),
            "notices": connected(notices),
            "listen": connected(listen),
            "cursor": connected(cursor),
            "pipeline": connected(many),
            "copy out": connected(copy_out),
            "copy in": connected(copy_in),
            "cancel": connected(cancel),
            "big rows": connected(big_rows),
            "many columns": connected(many_columns),
        }
    )
)
