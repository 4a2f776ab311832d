// pgjdbc, the JDBC driver, in its three protocols for queries and with its copy manager.
import java.io.ByteArrayOutputStream;
import java.io.PrintWriter;
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.PSQLWarning;
import org.postgresql.util.ServerErrorMessage;

public final class Checks {
  interface Check {
    void run(Connection c) throws Exception;
  }

  static final int ROW_BYTES = 50 * 1024 * 1024;
  static final long FIRST_ID = Long.parseLong(System.getenv("DRIVER_NUMBER")) * 1_000_000;

  static Connection connect(String... more) throws SQLException {
    Properties p = new Properties();
    p.setProperty("user", System.getenv("PGUSER"));
    p.setProperty("password", System.getenv("PGPASSWORD"));
    p.setProperty("sslmode", "verify-full");
    p.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
    for (int n = 0; n < more.length; n += 2) p.setProperty(more[n], more[n + 1]);
    return DriverManager.getConnection(
        "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), p);
  }

  static void expect(boolean ok, Object what) {
    if (!ok) throw new AssertionError(String.valueOf(what));
  }

  static String stateOf(Check work, Connection c) throws Exception {
    try {
      work.run(c);
    } catch (SQLException error) {
      return error.getSQLState();
    }
    return "no error";
  }

  static long number(Connection c, String sql, Object... values) throws SQLException {
    try (PreparedStatement s = c.prepareStatement(sql)) {
      for (int n = 0; n < values.length; n++) s.setObject(n + 1, values[n]);
      try (ResultSet rows = s.executeQuery()) {
        rows.next();
        return rows.getLong(1);
      }
    }
  }

  static void tls(Connection c) throws Exception {
    expect(number(c, "select 1") == 1, "one");
    try (Connection bound = connect("channelBinding", "require")) {
      expect(number(bound, "select 1") == 1, "bound");
    }
    try (Connection direct = connect("sslNegotiation", "direct")) {
      expect(number(direct, "select 1") == 1, "direct");
    }
    expect(stateOf(x -> connect("sslmode", "disable").close(), c).equals("28000"), "without TLS");
  }

  static void values(Connection ignored) throws Exception {
    for (String mode : new String[] {"extended", "simple", "extendedForPrepared", "extendedCacheEverything"})
      try (Connection c = connect("preferQueryMode", mode, "prepareThreshold", "2")) {
        for (int round = 0; round < 8; round++)
          try (PreparedStatement s = c.prepareStatement("select ?::text, ?::int8, ?::numeric, ?::bytea, ?::text, ?::timestamptz, ?::int[]")) {
            s.setString(1, "héllo");
            s.setLong(2, 7);
            s.setBigDecimal(3, new java.math.BigDecimal("1.5"));
            s.setBytes(4, new byte[] {0, -1});
            s.setNull(5, java.sql.Types.VARCHAR);
            s.setObject(6, java.time.OffsetDateTime.parse("2026-01-01T00:00:00Z"));
            s.setArray(7, c.createArrayOf("int4", new Object[] {1, 2}));
            try (ResultSet r = s.executeQuery()) {
              r.next();
              expect(r.getString(1).equals("héllo") && r.getLong(2) == 7 && r.getBigDecimal(3).toString().equals("1.5"), mode);
              expect(Arrays.equals(r.getBytes(4), new byte[] {0, -1}) && r.getString(5) == null, mode);
              expect(r.getObject(6, java.time.OffsetDateTime.class).toEpochSecond() == 1767225600L, mode);
              expect(Arrays.equals((Integer[]) r.getArray(7).getArray(), new Integer[] {1, 2}), mode);
            }
          }
      }
  }

  static void binary(Connection ignored) throws Exception {
    try (Connection c = connect("binaryTransfer", "true", "prepareThreshold", "-1")) {
      expect(number(c, "select ?::int4", 258) == 258, "int4");
    }
  }

  static void prepared(Connection ignored) throws Exception {
    List<CompletableFuture<Void>> all = new ArrayList<>();
    for (int client = 0; client < 4; client++)
      all.add(
          CompletableFuture.runAsync(
              () -> {
                try (Connection c = connect("prepareThreshold", "3");
                    PreparedStatement s = c.prepareStatement("select ?::int + 1")) {
                  for (int n = 0; n < 100; n++) {
                    s.setInt(1, n);
                    try (ResultSet r = s.executeQuery()) {
                      r.next();
                      expect(r.getInt(1) == n + 1, n);
                    }
                  }
                } catch (SQLException error) {
                  throw new RuntimeException(error);
                }
              }));
    for (CompletableFuture<Void> one : all) one.get();
  }

  static final String COUNTED = "select count(*) from accounts where tenant_id = ? and id between ? and ?";

  static void tenants(Connection ignored) throws Exception {
    try (Connection c = connect("user", "any_app", "prepareThreshold", "2")) {
      for (String tenant : new String[] {"acme", "bolt"}) {
        try (PreparedStatement s = c.prepareStatement("insert into accounts (tenant_id, id) values (?, ?)")) {
          for (int n = 0; n < 2; n++) {
            s.setString(1, tenant);
            s.setLong(2, FIRST_ID + 20_000 + n);
            s.addBatch();
          }
          expect(Arrays.stream(s.executeBatch()).sum() == 2, "batch");
        }
        for (int round = 0; round < 7; round++)
          expect(number(c, COUNTED, tenant, FIRST_ID + 20_000, FIRST_ID + 20_009) == 2, tenant);
      }
      expect(stateOf(x -> number(x, "select count(*) from accounts"), c).equals("MD003"), "without a tenant");
      try (Statement s = c.createStatement()) {
        s.execute("set meridian.tenant = 'bolt'");
        try (ResultSet r = s.executeQuery("select min(tenant_id) from accounts")) {
          r.next();
          expect(r.getString(1).equals("bolt"), "min");
        }
      }
    }
  }

  static void errors(Connection c) throws Exception {
    try (Statement s = c.createStatement()) {
      s.execute("select fail('boom')");
      expect(false, "no error");
    } catch (PSQLException error) {
      ServerErrorMessage said = error.getServerErrorMessage();
      expect(said.getSQLState().equals("P0042") && said.getMessage().equals("boom") && said.getTable().equals("accounts"), said);
      expect(said.getDetail().equals("the detail") && said.getHint().equals("the hint"), said);
    }
    try (Statement s = c.createStatement()) {
      s.execute("select * frm accounts");
      expect(false, "no error");
    } catch (PSQLException error) {
      expect(error.getSQLState().equals("42601") && error.getServerErrorMessage().getPosition() == 10, error);
    }
    expect(stateOf(x -> number(x, "select count(*) from accounts where tenant_id = ?", "bolt"), c).equals("MD004"), "another tenant");
    expect(number(c, "select 7") == 7, "after");
  }

  static void notices(Connection c) throws Exception {
    try (Statement s = c.createStatement()) {
      s.execute("do $$ begin raise warning 'hear this' using hint = 'soon'; end $$");
      PSQLWarning heard = (PSQLWarning) s.getWarnings();
      expect(heard.getMessage().equals("hear this") && heard.getServerErrorMessage().getHint().equals("soon"), heard);
    }
  }

  static void listen(Connection c) throws Exception {
    try (Statement s = c.createStatement()) {
      s.execute("listen \"Orders\"");
      try (Connection other = connect(); Statement say = other.createStatement()) {
        say.execute("notify \"Orders\", 'seven'");
      }
      PGNotification[] heard = c.unwrap(PGConnection.class).getNotifications(30_000);
      expect(heard.length == 1 && heard[0].getName().equals("Orders") && heard[0].getParameter().equals("seven"), Arrays.toString(heard));
      s.execute("unlisten *");
    }
  }

  static void add(Connection c, long id) throws SQLException {
    try (PreparedStatement s = c.prepareStatement("insert into accounts (tenant_id, id) values ('acme', ?)")) {
      s.setLong(1, id);
      s.executeUpdate();
    }
  }

  static void transaction(Connection c) throws Exception {
    c.setAutoCommit(false);
    add(c, FIRST_ID);
    Savepoint a = c.setSavepoint();
    expect(stateOf(x -> add(x, FIRST_ID), c).equals("23505"), "twice");
    c.rollback(a);
    c.commit();
    c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
    add(c, FIRST_ID + 1);
    c.rollback();
    expect(number(c, "select sum(id) from accounts where id between ? and ?", FIRST_ID, FIRST_ID + 9) == FIRST_ID, "sum");
    c.rollback();
    c.setReadOnly(true);
    expect(number(c, "select 1") == 1, "read only");
    c.commit();
  }

  static void cursor(Connection c) throws Exception {
    c.setAutoCommit(false);
    try (Statement s = c.createStatement()) {
      s.setFetchSize(300);
      long sum = 0;
      try (ResultSet r = s.executeQuery("select n from generate_series(1, 1000) n")) {
        while (r.next()) sum += r.getLong(1);
      }
      expect(sum == 500_500, sum);
      try (ResultSet r = s.executeQuery("select n from generate_series(1, 1000) n")) {
        r.next();
      }
    }
    c.commit();
    expect(number(c, "select 2") == 2, "after");
  }

  static void pipeline(Connection c) throws Exception {
    try (PreparedStatement s = c.prepareStatement("insert into notes (tenant_id, body) values ('acme', ?)")) {
      for (int n = 0; n < 2000; n++) {
        s.setString(1, "jdbc-" + n);
        s.addBatch();
      }
      expect(Arrays.stream(s.executeBatch()).sum() == 2000, "batch");
    }
    expect(number(c, "select count(*) from notes where tenant_id = 'acme' and body like 'jdbc-%'") == 2000, "count");
    c.setAutoCommit(false);
    try (PreparedStatement s = c.prepareStatement("insert into accounts (tenant_id, id) values ('acme', ?)")) {
      for (long id : new long[] {5, 6, 5}) {
        s.setLong(1, FIRST_ID + id);
        s.addBatch();
      }
      try {
        s.executeBatch();
        expect(false, "twice in a batch");
      } catch (BatchUpdateException error) {
        expect(error.getSQLState().equals("23505"), error);
      }
    }
    c.rollback();
    try (Statement s = c.createStatement()) {
      s.execute("select 1; select 2; select 3");
      int results = 1;
      while (s.getMoreResults()) results += 1;
      expect(results == 3, results);
    }
    c.commit();
  }

  static void copyOut(Connection c) throws Exception {
    CopyManager copies = c.unwrap(PGConnection.class).getCopyAPI();
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    copies.copyOut("copy (select repeat('x', 1000) from generate_series(1, 5000)) to stdout", out);
    expect(out.size() == 5000 * 1001, out.size());
    expect(number(c, "select 3") == 3, "after");
  }

  static void copyIn(Connection c) throws Exception {
    StringBuilder rows = new StringBuilder();
    for (int n = 0; n < 3000; n++) rows.append("acme\t").append(FIRST_ID + 1000 + n).append('\n');
    CopyManager copies = c.unwrap(PGConnection.class).getCopyAPI();
    long count = copies.copyIn("copy accounts (tenant_id, id) from stdin", new StringReader(rows.toString()));
    expect(count == 3000, count);
    expect(number(c, "select count(*) from accounts where id >= ? and id < ?", FIRST_ID + 1000, FIRST_ID + 10_000) == 3000, "count");
  }

  static void cancel(Connection c) throws Exception {
    try (Statement s = c.createStatement()) {
      CompletableFuture.runAsync(
          () -> {
            try {
              Thread.sleep(300);
              s.cancel();
            } catch (Exception error) {
              throw new RuntimeException(error);
            }
          });
      expect(stateOf(x -> s.execute("select pg_sleep(60)"), c).equals("57014"), "cancel");
      s.setQueryTimeout(1);
      expect(stateOf(x -> s.execute("select pg_sleep(60)"), c).equals("57014"), "timeout");
    }
    expect(number(c, "select 4") == 4, "after");
  }

  static void bigRows(Connection c) throws Exception {
    try (PreparedStatement s = c.prepareStatement("select repeat('x', ?), length(?::text)")) {
      s.setInt(1, ROW_BYTES);
      s.setString(2, "y".repeat(ROW_BYTES));
      try (ResultSet r = s.executeQuery()) {
        r.next();
        expect(r.getString(1).length() == ROW_BYTES && r.getInt(2) == ROW_BYTES, "lengths");
      }
    }
  }

  static void manyColumns(Connection c) throws Exception {
    StringBuilder wide = new StringBuilder("select 0::int as c0");
    for (int n = 1; n < 1000; n++) wide.append(", ").append(n).append("::int as c").append(n);
    for (int round = 0; round < 7; round++)
      try (PreparedStatement s = c.prepareStatement(wide.toString());
          ResultSet r = s.executeQuery()) {
        r.next();
        expect(r.getMetaData().getColumnCount() == 1000 && r.getInt("c999") == 999, "columns");
      }
  }

  public static void main(String[] arguments) {
    Map<String, Check> checks = new LinkedHashMap<>();
    checks.put("tls", Checks::tls);
    checks.put("values", Checks::values);
    checks.put("binary", Checks::binary);
    checks.put("prepared", Checks::prepared);
    checks.put("tenants", Checks::tenants);
    checks.put("transaction", Checks::transaction);
    checks.put("errors", Checks::errors);
    checks.put("notices", Checks::notices);
    checks.put("listen", Checks::listen);
    checks.put("cursor", Checks::cursor);
    checks.put("pipeline", Checks::pipeline);
    checks.put("copy out", Checks::copyOut);
    checks.put("copy in", Checks::copyIn);
    checks.put("cancel", Checks::cancel);
    checks.put("big rows", Checks::bigRows);
    checks.put("many columns", Checks::manyColumns);
    checks.forEach(
        (name, check) -> {
          String outcome = "ok\t";
          try (Connection c = connect()) {
            check.run(c);
          } catch (Throwable error) {
            StringWriter text = new StringWriter();
            error.printStackTrace(new PrintWriter(text));
            outcome = "failed\t" + text.toString().replaceAll("\\n\\s+at (?!Checks)[^\n]*", "").replaceAll("\\s+", " ");
          }
          System.out.println("CHECK\t" + name + "\t" + outcome);
        });
    System.exit(0);
  }
}
