//! tokio-postgres, which pipelines whatever is asked for at the same time.
use std::env::var;
use std::error::Error;
use std::future::{poll_fn, Future};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{pin_mut, SinkExt, TryStreamExt};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio::time::timeout;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::{ErrorPosition, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const ROW_BYTES: usize = 50 * 1024 * 1024;

fn first_id() -> i64 {
    var("DRIVER_NUMBER").unwrap().parse::<i64>().unwrap() * 1_000_000
}

fn expect(ok: bool, what: impl std::fmt::Debug) -> Outcome {
    if ok { Ok(()) } else { Err(format!("{what:?}").into()) }
}

fn tls(trusts: bool) -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    if trusts {
        let pem = std::fs::read(var("PGSSLROOTCERT").unwrap()).unwrap();
        for one in rustls_pemfile::certs(&mut pem.as_slice()) {
            roots.add(one.unwrap()).unwrap();
        }
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    MakeRustlsConnect::new(config)
}

fn config(more: &str) -> Config {
    let get = |name: &str| var(name).unwrap();
    format!(
        "host={} port={} user={} password='{}' dbname={} sslmode=require {more}",
        get("PGHOST"), get("PGPORT"), get("PGUSER"), get("PGPASSWORD"), get("PGDATABASE")
    )
    .parse()
    .unwrap()
}

async fn connect(more: &str, trusts: bool) -> Result<Client, Box<dyn Error + Send + Sync>> {
    let (client, connection) = config(more).connect(tls(trusts)).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn state(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| format!("{error:?}"), |code| code.code().to_owned())
}

async fn secure(client: Client) -> Outcome {
    expect(client.query_one("select 1", &[]).await?.get::<_, i32>(0) == 1, "one")?;
    let direct = connect("sslnegotiation=direct", true).await?;
    expect(direct.query_one("select 1", &[]).await?.get::<_, i32>(0) == 1, "direct")?;
    // Its TLS doesn't name what to bind to: channel_binding=require is for others here.
    expect(connect("", false).await.is_err(), "an unknown authority")
}

async fn values(client: Client) -> Outcome {
    let row = client
        .query_one(
            "select $1::text, $2::int8, $3::bytea, $4::text, $5::int[], $6::float8, $7::bool",
            &[&"héllo", &7i64, &vec![0u8, 255], &None::<String>, &vec![1i32, 2], &1.5f64, &true],
        )
        .await?;
    expect(row.get::<_, String>(0) == "héllo" && row.get::<_, i64>(1) == 7, "text, int8")?;
    expect(row.get::<_, Vec<u8>>(2) == [0, 255] && row.get::<_, Option<String>>(3).is_none(), "bytea, null")?;
    expect(row.get::<_, Vec<i32>>(4) == [1, 2] && row.get::<_, bool>(6), "array, bool")?;
    let simple = client.simple_query("select 'a'; select 'b'").await?;
    expect(simple.len() == 6, simple.len())
}

async fn binary(client: Client) -> Outcome {
    let typed = client.query_typed("select $1::int4", &[(&258i32, Type::INT4)]).await?;
    expect(typed[0].get::<_, i32>(0) == 258, "int4")
}

async fn prepared(_: Client) -> Outcome {
    let clients = join_all((0..4).map(|_| connect("", true))).await;
    join_all(clients.into_iter().map(|client| async move {
        let client = client?;
        let plus = client.prepare("select $1::int + 1").await?;
        for n in 0..100i32 {
            expect(client.query_one(&plus, &[&n]).await?.get::<_, i32>(0) == n + 1, n)?;
        }
        Ok(())
    }))
    .await
    .into_iter()
    .collect()
}

const ADD: &str = "insert into accounts (tenant_id, id) values ('acme', $1)";

async fn tenants(_: Client) -> Outcome {
    let client = connect("user=any_app", true).await?;
    let counted = "select count(*) from accounts where tenant_id = $1 and id between $2 and $3";
    for tenant in ["acme", "bolt"] {
        let insert = client.prepare("insert into accounts (tenant_id, id) values ($1, $2)").await?;
        for n in 0..2i64 {
            client.execute(&insert, &[&tenant, &(first_id() + 20_000 + n)]).await?;
        }
        for _ in 0..5 {
            let row = client.query_one(counted, &[&tenant, &(first_id() + 20_000), &(first_id() + 20_009)]).await?;
            expect(row.get::<_, i64>(0) == 2, tenant)?;
        }
    }
    let error = client.query("select count(*) from accounts", &[]).await.unwrap_err();
    expect(state(&error) == "MD003", state(&error))?;
    client.batch_execute("set meridian.tenant = 'bolt'").await?;
    expect(client.query_one("select min(tenant_id) from accounts", &[]).await?.get::<_, &str>(0) == "bolt", "bolt")
}

async fn errors(client: Client) -> Outcome {
    let error = client.query("select fail('boom')", &[]).await.unwrap_err();
    let said = error.as_db_error().ok_or("no error of the server")?;
    expect(said.code().code() == "P0042" && said.message() == "boom" && said.table() == Some("accounts"), said)?;
    expect(said.detail() == Some("the detail") && said.hint() == Some("the hint"), said)?;
    let wrong = client.query("select * frm accounts", &[]).await.unwrap_err();
    let position = wrong.as_db_error().and_then(|said| said.position()).cloned();
    expect(state(&wrong) == "42601" && position == Some(ErrorPosition::Original(10)), position)?;
    let foreign = client.query("select * from accounts where tenant_id = $1", &[&"bolt"]).await.unwrap_err();
    expect(state(&foreign) == "MD004", state(&foreign))?;
    expect(client.query_one("select 7", &[]).await?.get::<_, i32>(0) == 7, "after")
}

/// A client, and what is said to it unasked.
async fn hearing() -> Result<(Client, UnboundedReceiver<AsyncMessage>), Box<dyn Error + Send + Sync>> {
    let (client, mut connection) = config("").connect(tls(true)).await?;
    let (say, heard) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if say.send(message).is_err() {
                break;
            }
        }
    });
    Ok((client, heard))
}

async fn notices(_: Client) -> Outcome {
    let (client, mut heard) = hearing().await?;
    client.batch_execute("do $$ begin raise warning 'hear this' using hint = 'soon'; end $$").await?;
    match timeout(Duration::from_secs(30), heard.recv()).await? {
        Some(AsyncMessage::Notice(said)) => expect(said.message() == "hear this" && said.hint() == Some("soon"), said),
        other => expect(false, other),
    }
}

async fn listen(other: Client) -> Outcome {
    let (client, mut heard) = hearing().await?;
    client.batch_execute("listen \"Orders\"").await?;
    other.batch_execute("notify \"Orders\", 'seven'").await?;
    match timeout(Duration::from_secs(30), heard.recv()).await? {
        Some(AsyncMessage::Notification(said)) => expect(said.channel() == "Orders" && said.payload() == "seven", said)?,
        other => expect(false, other)?,
    }
    client.batch_execute("unlisten *").await?;
    Ok(())
}

async fn transaction(mut client: Client) -> Outcome {
    let mut open = client.transaction().await?;
    open.execute(ADD, &[&first_id()]).await?;
    let inner = open.savepoint("a").await?;
    let twice = inner.execute(ADD, &[&first_id()]).await.unwrap_err();
    expect(twice.code() == Some(&SqlState::UNIQUE_VIOLATION), state(&twice))?;
    inner.rollback().await?;
    open.commit().await?;
    let undone = client.transaction().await?;
    undone.execute(ADD, &[&(first_id() + 1)]).await?;
    drop(undone);
    let rows = client.query("select id from accounts where id between $1 and $2", &[&first_id(), &(first_id() + 9)]).await?;
    expect(rows.len() == 1 && rows[0].get::<_, i64>(0) == first_id(), rows.len())
}

async fn cursor(mut client: Client) -> Outcome {
    let open = client.transaction().await?;
    let portal = open.bind("select n from generate_series(1, 1000) n", &[]).await?;
    let mut sum = 0;
    loop {
        let rows = open.query_portal(&portal, 300).await?;
        if rows.is_empty() {
            break;
        }
        sum += rows.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>();
    }
    expect(sum == 500_500, sum)?;
    open.commit().await?;
    Ok(())
}

async fn pipeline(client: Client) -> Outcome {
    let plain = client.prepare("select $1::int").await?;
    let failing = client.prepare("select 1 / $1::int").await?;
    let answers = join_all((0..500i32).map(|n| {
        let (client, plain, failing) = (&client, &plain, &failing);
        async move {
            if n % 7 == 3 {
                let error = client.query(failing, &[&0i32]).await.unwrap_err();
                expect(error.code() == Some(&SqlState::DIVISION_BY_ZERO), state(&error))
            } else {
                expect(client.query_one(plain, &[&n]).await?.get::<_, i32>(0) == n, n)
            }
        }
    }))
    .await;
    answers.into_iter().collect()
}

async fn copy_out(client: Client) -> Outcome {
    for form in ["text", "binary"] {
        let sql = format!("copy (select repeat('x', 1000) from generate_series(1, 5000)) to stdout (format {form})");
        let stream = client.copy_out(sql.as_str()).await?;
        pin_mut!(stream);
        let mut total = 0;
        while let Some(chunk) = stream.try_next().await? {
            total += chunk.len();
        }
        expect(total > 5_000_000, total)?;
    }
    expect(client.query_one("select 3", &[]).await?.get::<_, i32>(0) == 3, "after")
}

async fn copy_in(client: Client) -> Outcome {
    let sink = client.copy_in("copy accounts (tenant_id, id) from stdin").await?;
    pin_mut!(sink);
    for n in 0..3000 {
        sink.send(Bytes::from(format!("acme\t{}\n", first_id() + 1000 + n))).await?;
    }
    let count = sink.finish().await?;
    let sql = "select count(*) from accounts where id >= $1 and id < $2";
    let found = client.query_one(sql, &[&(first_id() + 1000), &(first_id() + 10_000)]).await?.get::<_, i64>(0);
    expect(count == 3000 && found == 3000, (count, found))?;
    let sink = client.copy_in("copy accounts (tenant_id, id) from stdin (format binary)").await?;
    let writer = BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::INT8]);
    pin_mut!(writer);
    for n in 0..1000i64 {
        writer.as_mut().write(&[&"acme", &(first_id() + 10_000 + n)]).await?;
    }
    expect(writer.finish().await? == 1000, "in binary")
}

async fn cancel(client: Client) -> Outcome {
    let token = client.cancel_token();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(tls(true)).await
    });
    let error = client.execute("select pg_sleep(60)", &[]).await.unwrap_err();
    expect(error.code() == Some(&SqlState::QUERY_CANCELED), state(&error))?;
    expect(client.query_one("select 4", &[]).await?.get::<_, i32>(0) == 4, "after")
}

async fn big_rows(client: Client) -> Outcome {
    let size = ROW_BYTES as i32;
    let row = client.query_one("select repeat('x', $1), length($2::text)", &[&size, &"y".repeat(ROW_BYTES)]).await?;
    expect(row.get::<_, &str>(0).len() == ROW_BYTES && row.get::<_, i32>(1) == size, "lengths")
}

async fn many_columns(client: Client) -> Outcome {
    let columns: Vec<String> = (0..1000).map(|n| format!("{n}::int as c{n}")).collect();
    let row = client.query_one(format!("select {}", columns.join(", ")).as_str(), &[]).await?;
    expect(row.len() == 1000 && row.get::<_, i32>("c999") == 999, row.len())?;
    let places: Vec<String> = (1..=1000).map(|n| format!("${n}::int")).collect();
    let numbers: Vec<i32> = (0..1000).collect();
    let parameters: Vec<&(dyn ToSql + Sync)> = numbers.iter().map(|n| n as &(dyn ToSql + Sync)).collect();
    let row = client.query_one(format!("select {}", places.join(", ")).as_str(), &parameters).await?;
    expect(row.get::<_, i32>(999) == 999, "parameters")
}

async fn report<F: Future<Output = Outcome>>(name: &str, check: impl FnOnce(Client) -> F) {
    let outcome = match connect("", true).await {
        Ok(client) => check(client).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => println!("CHECK\t{name}\tok\t"),
        Err(error) => println!("CHECK\t{name}\tfailed\t{}", format!("{error:?}").split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    report("tls", secure).await;
    report("values", values).await;
    report("binary", binary).await;
    report("prepared", prepared).await;
    report("tenants", tenants).await;
    report("transaction", transaction).await;
    report("errors", errors).await;
    report("notices", notices).await;
    report("listen", listen).await;
    report("cursor", cursor).await;
    report("pipeline", pipeline).await;
    report("copy out", copy_out).await;
    report("copy in", copy_in).await;
    report("cancel", cancel).await;
    report("big rows", big_rows).await;
    report("many columns", many_columns).await;
}
