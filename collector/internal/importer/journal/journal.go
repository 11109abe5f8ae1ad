// Package journal keeps the table imports, and what else an import asks the
// store.
package journal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
)

// remembered is how many inserts into flows may follow a block so that its
// token is still known: half the table's deduplication window, because an
// insert of several days counts once for each.
const remembered = 5000

// Journal is an importer.Journal in ClickHouse.
type Journal struct{ db clickhouse.Conn }

// Open connects to the database and makes sure that it has the table.
func Open(ctx context.Context, cfg chconn.Config) (*Journal, error) {
	db, err := cfg.Open(cfg.Database)
	if err != nil {
		return nil, err
	}
	var exists uint64
	err = db.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = ? AND name = 'imports'", cfg.Database).Scan(&exists)
	switch {
	case err != nil:
		err = explain(cfg, err)
	case exists == 0:
		err = fmt.Errorf("database %s at %s has no table imports: bring it to the schema of this build by starting the collector (`ebbwatch up`), or by `ebbwatch-collector migrate`", cfg.Database, cfg.Address)
	default:
		return &Journal{db: db}, nil
	}
	return nil, errors.Join(err, db.Close())
}

// explain says what to do about a ClickHouse that does not answer.
func explain(cfg chconn.Config, err error) error {
	var refused *clickhouse.Exception
	if errors.As(err, &refused) && refused.Code == authenticationFailed {
		return fmt.Errorf("the ClickHouse at %s does not take user %s with this password (%s): %w. Set clickhouse.user and clickhouse.password of that server; "+
			"with `ebbwatch up`, give the import the same -c, --data and --clickhouse-port", cfg.Address, cfg.User, cfg.Password, err)
	}
	return fmt.Errorf("ask ClickHouse at %s: %w; is it running? `ebbwatch up` starts it on one host; if that has other ports, the import needs the same -c or --clickhouse-port. "+
		"Elsewhere, clickhouse.address says where it is", cfg.Address, err)
}

const authenticationFailed = 516

// Close ends the connections.
func (j *Journal) Close() error { return j.db.Close() }

// newest is the number of the newest part of flows; it grows with every insert.
const newest = "(SELECT max(max_block_number) FROM system.parts WHERE database = currentDatabase() AND table = 'flows' AND active)"

// Entries implements importer.Journal.
func (j *Journal) Entries(ctx context.Context, agent string) ([]importer.Entry, error) {
	rows, err := j.db.Query(ctx, `SELECT id, agent, format, file, digest, toInt64(size), generation, shift_us, begun, blocks, records, rows, done, updated,
		toInt64(`+newest+`) - last_insert AS since FROM imports FINAL WHERE agent = ? ORDER BY updated`, agent)
	if err != nil {
		return nil, fmt.Errorf("read imports: %w", err)
	}
	defer rows.Close()
	var all []importer.Entry
	for rows.Next() {
		var e importer.Entry
		var shift, since int64
		err := rows.Scan(&e.ID, &e.Agent, &e.Format, &e.File, &e.Digest, &e.Size, &e.Generation, &shift, &e.Begun, &e.Blocks, &e.Records, &e.Rows, &e.Done, &e.Updated, &since)
		if err != nil {
			return nil, fmt.Errorf("read imports: %w", err)
		}
		e.Shift, e.Forgotten = time.Duration(shift)*time.Microsecond, since > remembered
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read imports: %w", err)
	}
	return all, nil
}

// Put implements importer.Journal.
func (j *Journal) Put(ctx context.Context, e importer.Entry) error {
	version := 4 * uint64(e.Blocks)
	if e.Done {
		version += 2
	}
	if e.Begun {
		version++
	}
	err := j.db.Exec(ctx, `INSERT INTO imports (id, version, agent, format, file, digest, size, generation, shift_us, begun, blocks, records, rows, done, updated, last_insert)
		SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now64(3), `+newest+` SETTINGS async_insert = 0`,
		e.ID, version, e.Agent, e.Format, e.File, e.Digest, e.Size, e.Generation, e.Shift.Microseconds(), e.Begun, e.Blocks, e.Records, e.Rows, e.Done)
	if err != nil {
		return fmt.Errorf("note the import: %w", err)
	}
	return nil
}

var ttl = regexp.MustCompile(`TTL toDateTime\(start\) \+ (toInterval[A-Z][a-z]+\([0-9]+\))`)

// Horizon implements importer.Journal.
func (j *Journal) Horizon(ctx context.Context) (time.Time, error) {
	var engine string
	err := j.db.QueryRow(ctx, "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'flows'").Scan(&engine)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask how long flows are kept: %w", err)
	}
	interval := ttl.FindStringSubmatch(engine)
	if interval == nil {
		return time.Time{}, nil
	}
	var horizon time.Time
	if err := j.db.QueryRow(ctx, "SELECT now64(3, 'UTC') - "+interval[1]).Scan(&horizon); err != nil {
		return time.Time{}, fmt.Errorf("ask how long flows are kept: %w", err)
	}
	return horizon.UTC(), nil
}
