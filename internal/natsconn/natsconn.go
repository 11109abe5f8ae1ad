// Package natsconn connects the services to NATS, for ever.
package natsconn

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
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

// Validate names the first key that cannot work.
func (c Config) Validate() error {
	for server := range strings.SplitSeq(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		switch {
		case err != nil || u.Host == "":
			return errors.New("url: want nats://host:port, several separated by commas") // not the value: it may hold a password
		case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
			return fmt.Errorf("url: scheme %q is not one of nats, tls, ws, wss", u.Scheme)
		}
	}
	if c.User == "" && c.Password != "" {
		return errors.New("password: has no user beside it")
	}
	return nil
}

// Redacted returns the URL without passwords, for logs and health.
func (c Config) Redacted() string {
	var servers []string
	for server := range strings.SplitSeq(c.URL, ",") {
		if u, err := url.Parse(strings.TrimSpace(server)); err == nil {
			servers = append(servers, u.Redacted())
		}
	}
	return strings.Join(servers, ", ")
}

// Connect returns a connection that is being established in the background and
// re-established whenever it breaks, also after the server refused the login: its
// users may change. It fails only on unusable configuration. extra options are
// applied last.
func Connect(name string, cfg Config, log *slog.Logger, extra ...nats.Option) (*nats.Conn, error) {
	password, err := cfg.Password.Value()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	opts := []nats.Option{
		nats.Name("ebbwatch-" + name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(),
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
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if !refused(err) { // each attempt meets it: watch tells it once
				log.Warn("nats reports an error", "error", err)
			}
		}),
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
		return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.Redacted(), Explain(err))
	}
	go watch(conn, conn.StatusChanged(nats.RECONNECTING, nats.CONNECTED, nats.CLOSED), log)
	return conn, nil
}

// watch logs, once for each reason, why the server refuses the login, until the
// connection is closed. No handler of the client is told that before the first
// connection.
func watch(conn *nats.Conn, changes <-chan nats.Status, log *slog.Logger) {
	said := ""
	for status := range changes {
		switch err := conn.LastError(); {
		case status == nats.CLOSED:
			return
		case status == nats.CONNECTED:
			said = ""
		case refused(err) && err.Error() != said:
			said = err.Error()
			log.Warn("nats refuses the login, trying again", "error", Explain(err))
		}
	}
}

// ErrDisconnected is wrapped by what Connected returns.
var ErrDisconnected = errors.New("not connected to NATS")

// Connected returns nil while conn is connected, else ErrDisconnected with the
// reason, if the last attempt reached a server that gave one.
func Connected(conn *nats.Conn) error {
	if conn.IsConnected() {
		return nil
	}
	if err := conn.LastError(); err != nil {
		return fmt.Errorf("%w: %w", ErrDisconnected, Explain(err))
	}
	return ErrDisconnected
}

// Explain adds to the refusal of a login which keys to look at.
func Explain(err error) error {
	if refused(err) {
		return fmt.Errorf("%w: check nats.user and nats.password, or nats.creds_file, against the users of the server", err)
	}
	return err
}

// refused reports whether err is the server's refusal of a login.
func refused(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}
