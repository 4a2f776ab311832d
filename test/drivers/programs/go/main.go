// pgx, by its connection and by its protocol's own pipeline.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const rowBytes = 50 * 1024 * 1024

var firstID = func() int64 {
	number, _ := strconv.ParseInt(os.Getenv("DRIVER_NUMBER"), 10, 64)
	return number * 1_000_000
}()

type check func(ctx context.Context, c *pgx.Conn) error

func line(name, outcome, text string) {
	fmt.Printf("CHECK\t%s\t%s\t%s\n", name, outcome, strings.Join(strings.Fields(text), " "))
}

func expect(ok bool, format string, values ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, values...)
}

func sqlstate(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return fmt.Sprint(err)
}

func connected(use check) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, "")
		if err != nil {
			return err
		}
		defer c.Close(ctx)
		return use(ctx, c)
	}
}

func scalar[T comparable](ctx context.Context, c *pgx.Conn, want T, sql string, values ...any) error {
	var got T
	if err := c.QueryRow(ctx, sql, values...).Scan(&got); err != nil {
		return err
	}
	return expect(got == want, "%v instead of %v for %s", got, want, sql)
}

func tls(ctx context.Context) error {
	if err := connected(func(ctx context.Context, c *pgx.Conn) error { return scalar(ctx, c, 1, "select 1") })(ctx); err != nil {
		return err
	}
	for _, more := range []string{"channel_binding=require", "min_protocol_version=3.2 max_protocol_version=3.2", "sslnegotiation=direct"} {
		c, err := pgx.Connect(ctx, more)
		if err != nil {
			return fmt.Errorf("%s: %w", more, err)
		}
		if err := scalar(ctx, c, 1, "select 1"); err != nil {
			return fmt.Errorf("%s: %w", more, err)
		}
		c.Close(ctx)
	}
	_, err := pgx.Connect(ctx, "sslmode=disable")
	return expect(sqlstate(err) == "28000", "without TLS: %v", err)
}

func values(ctx context.Context, c *pgx.Conn) error {
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		var text string
		var number int64
		var when time.Time
		var raw []byte
		var null *string
		var list []int32
		row := c.QueryRow(ctx, "select $1::text, $2::bigint, $3::timestamptz, $4::bytea, $5::text, $6::int[]", mode,
			"héllo", int64(7), time.Unix(0, 0), []byte{0, 255}, nil, []int32{1, 2})
		if err := row.Scan(&text, &number, &when, &raw, &null, &list); err != nil {
			return fmt.Errorf("%v: %w", mode, err)
		}
		ok := text == "héllo" && number == 7 && when.Equal(time.Unix(0, 0)) && bytes.Equal(raw, []byte{0, 255}) && null == nil && len(list) == 2 && list[1] == 2
		if !ok {
			return fmt.Errorf("%v: %v %v %v %v %v %v", mode, text, number, when, raw, null, list)
		}
	}
	return nil
}

func prepared(ctx context.Context) error {
	failures := make(chan error, 4)
	for range 4 {
		go func() {
			failures <- connected(func(ctx context.Context, c *pgx.Conn) error {
				for n := range 100 {
					if err := scalar(ctx, c, n+1, "select $1::int + 1", n); err != nil {
						return err
					}
				}
				return nil
			})(ctx)
		}()
	}
	var all error
	for range 4 {
		all = errors.Join(all, <-failures)
	}
	return all
}

func add(ctx context.Context, on interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
}, id int64) error {
	_, err := on.Exec(ctx, "insert into accounts (tenant_id, id) values ('acme', $1)", id)
	return err
}

func transaction(ctx context.Context, c *pgx.Conn) error {
	err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if err := add(ctx, tx, firstID); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error { return add(ctx, inner, firstID) })
		return expect(sqlstate(err) == "23505", "twice: %v", err)
	})
	if err != nil {
		return err
	}
	tx, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
	if err != nil {
		return err
	}
	if err := errors.Join(add(ctx, tx, firstID+1), tx.Rollback(ctx)); err != nil {
		return err
	}
	return scalar(ctx, c, firstID, "select sum(id)::bigint from accounts where id between $1 and $2", firstID, firstID+9)
}

func tenants(ctx context.Context) error {
	c, err := pgx.Connect(ctx, "user=any_app")
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, tenant := range []string{"acme", "bolt"} {
		for n := range int64(2) {
			if _, err := c.Exec(ctx, "insert into accounts (tenant_id, id) values ($1, $2)", tenant, firstID+20_000+n); err != nil {
				return err
			}
		}
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
			for range 2 {
				if err := scalar(ctx, c, int64(2), "select count(*) from accounts where tenant_id = $1 and id between $2 and $3", mode, tenant, firstID+20_000, firstID+20_009); err != nil {
					return fmt.Errorf("%v: %w", mode, err)
				}
			}
		}
	}
	if _, err := c.Exec(ctx, "select count(*) from accounts"); sqlstate(err) != "MD003" {
		return fmt.Errorf("without a tenant: %v", err)
	}
	if _, err := c.Exec(ctx, "set meridian.tenant = 'bolt'"); err != nil {
		return err
	}
	return scalar(ctx, c, "bolt", "select min(tenant_id) from accounts")
}

func failures(ctx context.Context, c *pgx.Conn) error {
	var said *pgconn.PgError
	_, err := c.Exec(ctx, "select fail('boom')")
	if !errors.As(err, &said) || said.Code != "P0042" || said.Message != "boom" || said.Detail != "the detail" || said.Hint != "the hint" || said.TableName != "accounts" {
		return fmt.Errorf("boom: %#v", err)
	}
	if _, err := c.Exec(ctx, "select * frm accounts"); !errors.As(err, &said) || said.Code != "42601" || said.Position != 10 {
		return fmt.Errorf("syntax: %#v", err)
	}
	if _, err := c.Exec(ctx, "select * from accounts where tenant_id = $1", "bolt"); sqlstate(err) != "MD004" {
		return fmt.Errorf("another tenant: %v", err)
	}
	return scalar(ctx, c, 7, "select 7")
}

func notices(ctx context.Context) error {
	config, err := pgx.ParseConfig("")
	if err != nil {
		return err
	}
	heard := []string{}
	config.OnNotice = func(_ *pgconn.PgConn, said *pgconn.Notice) {
		heard = append(heard, said.Severity, said.Message, said.Hint)
	}
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "do $$ begin raise warning 'hear this' using hint = 'soon'; end $$"); err != nil {
		return err
	}
	return expect(strings.Join(heard, ",") == "WARNING,hear this,soon", "%v", heard)
}

func listen(ctx context.Context, c *pgx.Conn) error {
	if _, err := c.Exec(ctx, `listen "Orders"`); err != nil {
		return err
	}
	say := connected(func(ctx context.Context, other *pgx.Conn) error {
		_, err := other.Exec(ctx, `notify "Orders", 'seven'`)
		return err
	})
	if err := say(ctx); err != nil {
		return err
	}
	short, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	heard, err := c.WaitForNotification(short)
	if err != nil {
		return err
	}
	if heard.Channel != "Orders" || heard.Payload != "seven" {
		return fmt.Errorf("%v", heard)
	}
	_, err = c.Exec(ctx, "unlisten *")
	return err
}

func cursor(ctx context.Context, c *pgx.Conn) error {
	tx, err := c.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "declare c cursor for select n from generate_series(1, 1000) n"); err != nil {
		return err
	}
	sum := 0
	for {
		rows, _ := tx.Query(ctx, "fetch 300 from c")
		numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil {
			return err
		}
		if len(numbers) == 0 {
			return expect(sum == 500_500, "sum %d", sum)
		}
		for _, n := range numbers {
			sum += n
		}
	}
}

func pipeline(ctx context.Context, c *pgx.Conn) error {
	batch := &pgx.Batch{}
	for n := range 500 {
		batch.Queue("select $1::int", n).QueryRow(func(row pgx.Row) error {
			var got int
			if err := row.Scan(&got); err != nil {
				return err
			}
			return expect(got == n, "%d instead of %d", got, n)
		})
	}
	if err := c.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	failing := &pgx.Batch{}
	failing.Queue("insert into accounts (tenant_id, id) values ('acme', $1)", firstID+5)
	failing.Queue("select 1 / $1::int", 0)
	if err := c.SendBatch(ctx, failing).Close(); sqlstate(err) != "22012" {
		return fmt.Errorf("division by zero: %v", err)
	}
	if err := scalar(ctx, c, int64(0), "select count(*) from accounts where id = $1", firstID+5); err != nil {
		return err
	}
	// Several Syncs, and answers asked for by Flush before any.
	p := c.PgConn().StartPipeline(ctx)
	for range 20 {
		p.SendQueryParams("select 'x'::text", nil, nil, nil, nil)
		p.SendFlushRequest()
		p.SendQueryParams("select 'y'::text", nil, nil, nil, nil)
		if err := p.Sync(); err != nil {
			return err
		}
	}
	count := 0
	for {
		results, err := p.GetResults()
		if err != nil {
			return err
		}
		if results == nil {
			break
		}
		if reader, ok := results.(*pgconn.ResultReader); ok {
			count += len(reader.Read().Rows)
		}
	}
	return errors.Join(p.Close(), expect(count == 40, "%d answers", count))
}

func copyOut(ctx context.Context, c *pgx.Conn) error {
	for _, form := range []string{"text", "binary"} {
		var out bytes.Buffer
		if _, err := c.PgConn().CopyTo(ctx, &out, "copy (select repeat('x', 1000) from generate_series(1, 5000)) to stdout (format "+form+")"); err != nil {
			return err
		}
		if err := expect(out.Len() > 5_000_000, "%d bytes", out.Len()); err != nil {
			return err
		}
	}
	return scalar(ctx, c, 3, "select 3")
}

func copyIn(ctx context.Context, c *pgx.Conn) error {
	var rows strings.Builder
	for n := range int64(3000) {
		fmt.Fprintf(&rows, "acme\t%d\n", firstID+1000+n)
	}
	if _, err := c.PgConn().CopyFrom(ctx, strings.NewReader(rows.String()), "copy accounts (tenant_id, id) from stdin"); err != nil {
		return err
	}
	counted := "select count(*) from accounts where id >= $1 and id < $2"
	if err := scalar(ctx, c, int64(3000), counted, firstID+1000, firstID+10_000); err != nil {
		return err
	}
	// In binary.
	records := pgx.CopyFromSlice(1000, func(n int) ([]any, error) { return []any{"acme", firstID + 10_000 + int64(n)}, nil })
	if _, err := c.CopyFrom(ctx, pgx.Identifier{"accounts"}, []string{"tenant_id", "id"}, records); err != nil {
		return err
	}
	return scalar(ctx, c, int64(1000), counted, firstID+10_000, firstID+20_000)
}

func cancel(ctx context.Context, c *pgx.Conn) error {
	time.AfterFunc(300*time.Millisecond, func() { c.PgConn().CancelRequest(ctx) })
	if _, err := c.Exec(ctx, "select pg_sleep(60)"); sqlstate(err) != "57014" {
		return fmt.Errorf("not cancelled: %v", err)
	}
	return scalar(ctx, c, 4, "select 4")
}

func bigRows(ctx context.Context, c *pgx.Conn) error {
	var text string
	if err := c.QueryRow(ctx, "select repeat('x', $1)", rowBytes).Scan(&text); err != nil {
		return err
	}
	if err := expect(len(text) == rowBytes, "%d bytes", len(text)); err != nil {
		return err
	}
	return scalar(ctx, c, rowBytes, "select length($1::text)", strings.Repeat("y", rowBytes))
}

func manyColumns(ctx context.Context, c *pgx.Conn) error {
	columns := make([]string, 1000)
	for n := range columns {
		columns[n] = fmt.Sprintf("%d::int as c%d", n, n)
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		rows, err := c.Query(ctx, "select "+strings.Join(columns, ", "), mode)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
		if err != nil {
			return err
		}
		if len(all) != 1 || len(all[0]) != 1000 || all[0][999] != int32(999) {
			return fmt.Errorf("%v: %d rows", mode, len(all))
		}
	}
	return nil
}

func main() {
	ctx := context.Background()
	checks := []struct {
		name string
		run  func(context.Context) error
	}{
		{"tls", tls},
		{"values", connected(values)},
		{"binary", connected(func(ctx context.Context, c *pgx.Conn) error {
			return scalar(ctx, c, int32(258), "select $1::int4", pgx.QueryResultFormats{pgx.BinaryFormatCode}, 258)
		})},
		{"prepared", prepared},
		{"tenants", tenants},
		{"transaction", connected(transaction)},
		{"errors", connected(failures)},
		{"notices", notices},
		{"listen", connected(listen)},
		{"cursor", connected(cursor)},
		{"pipeline", connected(pipeline)},
		{"copy out", connected(copyOut)},
		{"copy in", connected(copyIn)},
		{"cancel", connected(cancel)},
		{"big rows", connected(bigRows)},
		{"many columns", connected(manyColumns)},
	}
	for _, one := range checks {
		if err := one.run(ctx); err != nil {
			line(one.name, "failed", err.Error())
		} else {
			line(one.name, "ok", "")
		}
	}
}
