// Package natsconn connects the services to NATS, for ever.
package natsconn

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Config says where NATS is and how to log in.
type Config struct {
	URL      string        `yaml:"url"`        // nats://host:port, several separated by commas
	User     string        `yaml:"user"`       // user name, with password
	Password config.Secret `yaml:"password"`   // or file:/path
	Creds    string        `yaml:"creds_file"` // path of a credentials file, instead of user and password
	CA       string        `yaml:"ca_file"`    // path of a PEM file with the certificate authority of the servers
}

// DefaultConfig returns the configuration of a server on this host.
func DefaultConfig() Config { return Config{URL: nats.DefaultURL} }

// Connect returns a connection that is being established in the background and
// re-established whenever it breaks. It fails only on unusable configuration.
// extra options are applied last.
func Connect(name string, cfg Config, log *slog.Logger, extra ...nats.Option) (*nats.Conn, error) {
	password, err := cfg.Password.Value()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	opts := []nats.Option{
		nats.Name("ebbwatch-" + name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(500 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.ReconnectBufSize(-1), // never buffer unseen: the caller keeps what is not acknowledged
		nats.PingInterval(10 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("disconnected from nats", "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("reconnected to nats", "url", c.ConnectedUrlRedacted()) }),
		nats.ConnectHandler(func(c *nats.Conn) { log.Info("connected to nats", "url", c.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("nats reports an error", "error", err) }),
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, password))
	}
	if cfg.Creds != "" {
		opts = append(opts, nats.UserCredentials(cfg.Creds))
	}
	if cfg.CA != "" {
		opts = append(opts, nats.RootCAs(cfg.CA))
	}
	conn, err := nats.Connect(cfg.URL, append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.URL, err)
	}
	return conn, nil
}
