// Package store is the analyzer's side of the ClickHouse contract: every SQL
// statement of the analyzer stands here.
//
// A Store is safe for concurrent use. Its methods neither retry nor log: they
// return what went wrong, and callers decide. Times are UTC. Addresses of
// entities are text as netip.Addr prints them, IPv4 never mapped.
package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

var (
	// ErrNotReady is wrapped when the database or a table does not exist yet: the
	// collector creates them when it starts.
	ErrNotReady = errors.New("the database has no tables yet: waiting for the collector's migrations")
	// ErrNotFound is wrapped when no row has the id that was asked for.
	ErrNotFound = errors.New("not found")
)

// Config says where ClickHouse is and how much one query may take of it.
type Config struct {
	Address       string        `yaml:"address"`         // host:port of the native protocol
	Database      string        `yaml:"database"`        // database that the collector's migrations made
	User          string        `yaml:"user"`            // needs SELECT on the database and INSERT on findings, incidents, reports and deliveries
	Password      config.Secret `yaml:"password"`        // or file:/path
	MaxConns      int           `yaml:"max_connections"` // connections at most
	QueryTimeout  time.Duration `yaml:"query_timeout"`   // a query that takes longer is cancelled
	MaxQueryBytes uint64        `yaml:"max_query_bytes"` // memory of the server that one query may use
}

// DefaultConfig returns the configuration of a server on this host.
func DefaultConfig() Config {
	return Config{
		Address: "127.0.0.1:9000", Database: "ebbwatch", User: "analyzer",
		MaxConns: 8, QueryTimeout: 20 * time.Second, MaxQueryBytes: 1 << 30,
	}
}

// Validate names the first key that cannot work.
func (c *Config) Validate() error {
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	switch {
	case !isIdentifier(c.Database):
		return fmt.Errorf("database: %q is not a name of letters, digits and '_'", c.Database)
	case c.MaxConns < 1:
		return errors.New("max_connections: must be at least 1")
	case c.QueryTimeout < time.Second:
		return errors.New("query_timeout: must be at least 1s")
	case c.MaxQueryBytes < 1<<24:
		return errors.New("max_query_bytes: must be at least 16777216")
	}
	return nil
}

// isIdentifier keeps what is pasted into SQL text harmless.
func isIdentifier(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return name != "" && (name[0] < '0' || name[0] > '9')
}

// Store reads and writes the analyzer's tables.
type Store struct {
	conn    driver.Conn
	db      string
	timeout time.Duration
	version atomic.Uint64 // last version handed out
}

// Open returns a store. It does not connect: the first query does, and a
// connection that breaks is made anew by the next. It fails only on unusable
// configuration.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("clickhouse.%w", err)
	}
	password, err := cfg.Password.Value()
	if err != nil {
		return nil, fmt.Errorf("clickhouse.password: %w", err)
	}
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr:             []string{cfg.Address},
		Auth:             clickhouse.Auth{Database: cfg.Database, Username: cfg.User, Password: password},
		DialTimeout:      5 * time.Second,
		ReadTimeout:      cfg.QueryTimeout + 10*time.Second,
		MaxOpenConns:     cfg.MaxConns,
		MaxIdleConns:     min(cfg.MaxConns, 4),
		ConnMaxLifetime:  10 * time.Minute,
		BlockBufferSize:  2,
		ClientInfo:       clickhouse.ClientInfo{Products: []struct{ Name, Version string }{{"ebbwatch-analyzer", cli.Version()}}},
		ConnOpenStrategy: clickhouse.ConnOpenInOrder,
		Settings: clickhouse.Settings{
			"max_execution_time": int(cfg.QueryTimeout.Seconds()),
			"max_memory_usage":   cfg.MaxQueryBytes,
			"async_insert":       0, // what SaveX returned for must be there
			// In a cluster tables are Distributed: an IN or a join means all shards, what SaveX
			// stored is on its shard when it returns, and is asked for where it was stored.
			"distributed_product_mode":      "global",
			"distributed_foreground_insert": 1,
			"load_balancing":                "in_order",
			"prefer_localhost_replica":      0,
			// Grouping a flood's millions of pairs goes to disk instead of failing.
			"max_bytes_before_external_group_by": cfg.MaxQueryBytes / 4,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open clickhouse at %s: %w", cfg.Address, err)
	}
	return &Store{conn: conn, db: cfg.Database, timeout: cfg.QueryTimeout}, nil
}

// Close releases the connections.
func (s *Store) Close() error { return s.conn.Close() }

// Ping reports why the store cannot work at the moment: it connects and looks
// for the newest table. ErrNotReady means that the migrations have not run.
func (s *Store) Ping(ctx context.Context) error {
	var n uint64
	err := s.queryRow(ctx, "SELECT count() FROM (SELECT 1 FROM sources LIMIT 1)", nil, &n)
	return wrap("reach clickhouse", err)
}

// next returns a version above every one before it, also when the clock steps back.
func (s *Store) next() uint64 {
	now := uint64(time.Now().UnixMilli())
	for {
		last := s.version.Load()
		v := max(now, last+1)
		if s.version.CompareAndSwap(last, v) {
			return v
		}
	}
}

// wrap adds what was tried, and ErrNotReady to the errors that mean it.
func wrap(what string, err error) error {
	var exception *clickhouse.Exception
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exception) && (exception.Code == codeUnknownTable || exception.Code == codeUnknownDatabase):
		return fmt.Errorf("%s: %w", what, ErrNotReady)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Error codes of ClickHouse (src/Common/ErrorCodes.cpp).
const (
	codeUnknownTable    = 60
	codeUnknownDatabase = 81
)

// params are the named parameters of a query. The server substitutes them, so
// no value ever becomes SQL text. A time.Time is meant for at.
type params map[string]any

// at is the expression for a parameter that holds a time.
func at(name string) string { return "fromUnixTimestamp64Milli({" + name + ":Int64}, 'UTC')" }

func (p params) args() []any {
	args := make([]any, 0, len(p))
	for name, value := range p {
		if t, ok := value.(time.Time); ok {
			value = t.UnixMilli()
		}
		args = append(args, clickhouse.Named(name, value))
	}
	return args
}

func (s *Store) queryRow(ctx context.Context, sql string, p params, dest ...any) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout+5*time.Second)
	defer cancel()
	return s.conn.QueryRow(ctx, sql, p.args()...).Scan(dest...)
}

// query runs sql and calls scan for each row.
func (s *Store) query(ctx context.Context, sql string, p params, scan func(driver.Rows) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout+5*time.Second)
	defer cancel()
	rows, err := s.conn.Query(ctx, sql, p.args()...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
