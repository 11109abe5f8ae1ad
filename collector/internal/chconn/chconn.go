// Package chconn opens connections to ClickHouse: ch-go for the inserts of the
// hot path, clickhouse-go for everything else.
package chconn

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Config says where ClickHouse is and how to log in.
type Config struct {
	Address  string        `yaml:"address"`  // host:port of the native protocol
	Database string        `yaml:"database"` // created if it does not exist
	User     string        `yaml:"user"`     // creates and migrates the tables
	Password config.Secret `yaml:"password"` // or file:/path
	// User and password of inserts, which need less; no user: user and password.
	InsertUser     string        `yaml:"insert_user"`
	InsertPassword config.Secret `yaml:"insert_password"` // or file:/path
	// Compression of inserts on the network: lz4, none, or auto, which is none
	// where the address is this host's, because there it only costs.
	Compression string  `yaml:"compression"`
	Cluster     Cluster `yaml:"cluster"`
}

// DefaultConfig returns the configuration of a server on this host.
func DefaultConfig() Config {
	return Config{Address: "127.0.0.1:9000", Database: "ebbwatch", User: "default", Compression: "auto", Cluster: DefaultCluster()}
}

var databaseName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// Validate names the keys that are wrong.
func (c Config) Validate() error {
	_, noCompression := c.compression()
	return config.All(
		checkAddress("clickhouse.address", c.Address),
		config.Wrong(!databaseName.MatchString(c.Database), "clickhouse.database: want letters, digits and '_', not %q", c.Database),
		config.Wrong(c.User == "", "clickhouse.user: must not be empty"),
		noCompression,
		c.Cluster.validate(c.Database),
	)
}

// checkAddress reports what is wrong with the address at key.
func checkAddress(key, address string) error {
	if strings.Contains(address, "@") { // it is not shown: it may hold a password
		return fmt.Errorf("%s: want host:port alone; user and password have keys of their own", key)
	}
	_, _, err := net.SplitHostPort(address)
	return config.Wrong(err != nil, "%s: want host:port, not %q", key, address)
}

func (c Config) compression() (ch.Compression, error) {
	switch c.Compression {
	case "auto":
		if host, _, _ := net.SplitHostPort(c.Address); host == "localhost" || net.ParseIP(host).IsLoopback() {
			return ch.CompressionDisabled, nil
		}
		return ch.CompressionLZ4, nil
	case "lz4":
		return ch.CompressionLZ4, nil
	case "none":
		return ch.CompressionDisabled, nil
	}
	return 0, fmt.Errorf("clickhouse.compression: want auto, lz4 or none, not %q", c.Compression)
}

// Dial opens one connection for inserts. A packet that the server does not
// answer within readTimeout breaks the connection.
func (c Config) Dial(ctx context.Context, readTimeout time.Duration) (*ch.Client, error) {
	user, secret := c.User, c.Password
	if c.InsertUser != "" {
		user, secret = c.InsertUser, c.InsertPassword
	}
	password, err := secret.Value()
	if err != nil {
		return nil, err
	}
	compression, err := c.compression()
	if err != nil {
		return nil, err
	}
	client, err := ch.Dial(ctx, ch.Options{
		Address: c.Address, Database: c.Database, User: user, Password: password, Compression: compression,
		ClientName: "ebbwatch-collector", DialTimeout: 5 * time.Second, HandshakeTimeout: 10 * time.Second, ReadTimeout: readTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse at %s: %w", c.Address, err)
	}
	return client, nil
}

// Open returns a pool of connections for queries and migrations, in the given
// database ("" for the user's default). It does not connect yet.
func (c Config) Open(database string) (clickhouse.Conn, error) {
	password, err := c.Password.Value()
	if err != nil {
		return nil, err
	}
	options := clickhouse.Options{
		Addr: []string{c.Address}, Auth: clickhouse.Auth{Database: database, Username: c.User, Password: password},
		DialTimeout: 5 * time.Second, ReadTimeout: 5 * time.Minute, MaxOpenConns: 2, MaxIdleConns: 1, ConnMaxLifetime: time.Minute,
	}
	options.ClientInfo.Products = append(options.ClientInfo.Products, struct{ Name, Version string }{"ebbwatch-collector", cli.Version()})
	conn, err := clickhouse.Open(&options)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse at %s: %w", c.Address, err)
	}
	return conn, nil
}
