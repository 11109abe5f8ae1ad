package proctest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// User is the ClickHouse user that owns the databases.
const User = "collector"

// ErrNoEngine says that this host has no engine to start.
var ErrNoEngine = errors.New("no ClickHouse engine on this host")

// exitNoEngine is the exit status of `ebbwatch engine` then.
const exitNoEngine = 4

// ClickHouse is a local engine that can be killed and started again with its
// data, on the same ports.
type ClickHouse struct {
	*Process
	Addr, Password string
	Conn           clickhouse.Conn

	dir, httpPort string
	databases     []string
	env           []string
	verbose       bool
}

// NewClickHouse starts an engine on free ports with its data in dir, and env added to
// its environment, and returns when it answers.
func NewClickHouse(ctx context.Context, dir string, databases []string, verbose bool, env ...string) (*ClickHouse, error) {
	tcp, err := FreePort()
	if err != nil {
		return nil, err
	}
	http, err := FreePort()
	if err != nil {
		return nil, err
	}
	c := &ClickHouse{Addr: "127.0.0.1:" + tcp, dir: dir, httpPort: http, databases: databases, env: env, verbose: verbose}
	return c, c.Start(ctx)
}

// Start starts the engine, again after Stop or Kill, and returns when it answers.
func (c *ClickHouse) Start(ctx context.Context) error {
	var err error
	c.Process, err = Ebbwatch(c.verbose, append([]string{
		"EBBWATCH_DATA_DIR=" + c.dir, "EBBWATCH_CLICKHOUSE_TCP_PORT=" + strings.TrimPrefix(c.Addr, "127.0.0.1:"), "EBBWATCH_CLICKHOUSE_HTTP_PORT=" + c.httpPort,
		"EBBWATCH_CLICKHOUSE_DATABASES=[" + strings.Join(c.databases, ",") + "]",
	}, c.env...), "engine", "--end-with-stdin")
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			c.Kill()
			return ctx.Err()
		case <-c.Done():
			if c.ExitCode() == exitNoEngine {
				return fmt.Errorf("%w: %s", ErrNoEngine, c.Output())
			}
			return fmt.Errorf("the engine ended: %s", c.Output())
		case <-time.After(100 * time.Millisecond):
		}
		if c.connect(ctx) == nil {
			return nil
		}
	}
}

// HTTP returns the address of the engine's HTTP interface.
func (c *ClickHouse) HTTP() string { return "127.0.0.1:" + c.httpPort }

func (c *ClickHouse) connect(ctx context.Context) error {
	password, err := os.ReadFile(filepath.Join(c.dir, "secrets", "clickhouse-"+User))
	if err != nil {
		return err
	}
	if c.Conn != nil {
		c.Conn.Close()
	}
	c.Password = strings.TrimSpace(string(password))
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{c.Addr}, Auth: clickhouse.Auth{Username: User, Password: c.Password}, ReadTimeout: 10 * time.Minute,
	})
	if err != nil {
		return err
	}
	if err := conn.Ping(ctx); err != nil {
		conn.Close()
		return err
	}
	c.Conn = conn
	return nil
}

// FreePort returns a port of 127.0.0.1 that nobody listens on at the moment.
func FreePort() (string, error) {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}
