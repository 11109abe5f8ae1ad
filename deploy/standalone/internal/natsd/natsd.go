// Package natsd runs a NATS server with JetStream inside this process.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// User is the only user of the server; its password is the data folder's secret
// of the name SecretName.
const (
	User       = "ebbwatch"
	SecretName = "nats"
)

const startTimeout = 30 * time.Second

// Config says how the server listens and keeps messages.
type Config struct {
	Listen       string        `yaml:"listen"`        // host:port
	MaxMemoryMB  int           `yaml:"max_memory_mb"` // most memory of streams that live in memory, in MiB
	MaxStoreMB   int           `yaml:"max_store_mb"`  // most disk of all streams, in MiB; more than collector.streams adds up to; 0 is three quarters of the free disk
	SyncInterval time.Duration `yaml:"sync_interval"` // a message reaches the disk itself, beyond the page cache, within this time
	SyncAlways   bool          `yaml:"sync_always"`   // … before it is acknowledged; slower by far
}

// DefaultConfig returns the configuration of the server inside `ebbwatch up`.
func DefaultConfig() Config {
	return Config{Listen: "127.0.0.1:8465", MaxMemoryMB: 64, MaxStoreMB: 8192, SyncInterval: time.Second}
}

// Validate names the first key that cannot be used.
func (c Config) Validate() error {
	_, text, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %q is not host:port", c.Listen)
	}
	if n, err := strconv.Atoi(text); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("listen: %q is not a port (1 to 65535)", text)
	}
	if c.MaxMemoryMB < 0 || c.MaxStoreMB < 0 {
		return errors.New("max_memory_mb, max_store_mb: must not be negative")
	}
	if c.SyncInterval <= 0 {
		return errors.New("sync_interval: must be above 0")
	}
	return nil
}

// Port returns what the server listens on.
func (c Config) Port() port.Port {
	return port.Port{Address: c.Listen, Key: "nats.listen", Flag: "--nats-port"}
}

// Server is a NATS server.
type Server struct {
	cfg Config
	dir *datadir.Dir
	log *slog.Logger

	started sync.Once
	ready   chan struct{}
}

// New returns a server that keeps its messages in dir.
func New(cfg Config, dir *datadir.Dir, log *slog.Logger) *Server {
	return &Server{cfg: cfg, dir: dir, log: log, ready: make(chan struct{})}
}

// Ready is closed when the server takes connections.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Client returns how a service of this host connects.
func (s *Server) Client() natsconn.Config { return Client(s.cfg.Listen, s.dir.Path()) }

// Client returns how to connect to the server that listens on host:port and whose
// data folder is dir. The password is named by its file, so that it shows in no dump.
func Client(listen, dir string) natsconn.Config {
	return natsconn.Config{URL: "nats://" + listen, User: User, Password: config.Secret("file:" + datadir.SecretPath(dir, SecretName))}
}

// Run serves until ctx ends, then closes connections and writes all to disk. It
// fails when the port is taken or the store cannot be read.
//
// A stream whose store met a write error, as on a full disk, takes no message
// any more, also when there is room again, until the server starts anew: then it
// does, with what is on the disk. Whoever publishes keeps what was not acknowledged.
func (s *Server) Run(ctx context.Context) error {
	for {
		again, err := s.serve(ctx)
		if err != nil || !again {
			return err
		}
		s.log.Warn("nats starts again, because it could not write and now there is room on its disk")
	}
}

// serve runs the server once. It reports whether it should start anew.
func (s *Server) serve(ctx context.Context) (again bool, err error) {
	opts, err := s.options(ctx)
	if err != nil {
		return false, err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return false, fmt.Errorf("start nats: %w", err)
	}
	fatal, broken := make(chan string, 1), make(chan struct{}, 1)
	srv.SetLoggerV2(&logger{log: s.log.With("part", "nats"), fatal: fatal, broken: broken}, false, false, false)
	go srv.Start()
	defer func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	if err := waitReady(ctx, srv, fatal); err != nil {
		return false, err
	}
	if ctx.Err() != nil {
		return false, nil
	}
	s.started.Do(func() { close(s.ready) })
	var look <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case reason := <-fatal:
			return false, fmt.Errorf("nats ended: %s", reason)
		case <-broken:
			look = time.After(mendAfter)
		case <-look:
			if hasRoom(opts.StoreDir) {
				return true, nil
			}
			look = time.After(mendAfter)
		}
	}
}

const (
	// mendAfter is how long a server that cannot write is left alone.
	mendAfter = 5 * time.Second
	// room is what must be free before it starts anew, in bytes.
	room = 16 << 20
)

func hasRoom(folder string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(folder, &fs) == nil && fs.Bavail*uint64(fs.Bsize) >= room
}

// waitReady returns when srv takes connections or ctx has ended.
func waitReady(ctx context.Context, srv *server.Server, fatal <-chan string) error {
	deadline := time.Now().Add(startTimeout)
	for !srv.ReadyForConnections(50 * time.Millisecond) {
		select {
		case reason := <-fatal:
			return fmt.Errorf("start nats: %s", reason)
		case <-ctx.Done():
			return nil
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("start nats: not ready within %s", startTimeout)
		}
	}
	return nil
}

func (s *Server) options(ctx context.Context) (*server.Options, error) {
	if err := s.cfg.Port().Check(ctx); err != nil {
		return nil, err
	}
	host, portText, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start nats: %w", err)
	}
	number, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("start nats: %w", err)
	}
	password, err := s.dir.Secret(SecretName)
	if err != nil {
		return nil, err
	}
	// Hashed, as the server wants it; a random password needs no cost.
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return nil, fmt.Errorf("start nats: %w", err)
	}
	store, err := s.dir.Sub("nats")
	if err != nil {
		return nil, err
	}
	const mib = 1 << 20
	return &server.Options{
		ServerName: "ebbwatch", Host: host, Port: number, NoSigs: true,
		Username: User, Password: string(hash),
		JetStream: true, StoreDir: store, DisableJetStreamBanner: true,
		JetStreamMaxMemory: int64(s.cfg.MaxMemoryMB) * mib, JetStreamMaxStore: int64(s.cfg.MaxStoreMB) * mib,
		SyncInterval: s.cfg.SyncInterval, SyncAlways: s.cfg.SyncAlways,
	}, nil
}

// logger passes what the server says on. A fatal error of the server must not
// end the process: it goes to fatal. That a store cannot be written any more the
// server tells only here: it goes to broken.
type logger struct {
	log    *slog.Logger
	fatal  chan<- string
	broken chan<- struct{}
}

func text(format string, v []any) slog.Attr {
	return slog.String("text", strings.TrimSpace(fmt.Sprintf(format, v...)))
}

// Noticef implements server.Logger.
func (l *logger) Noticef(format string, v ...any) {
	l.log.LogAttrs(context.Background(), slog.LevelDebug, "nats notice", text(format, v))
}

// Warnf implements server.Logger.
func (l *logger) Warnf(format string, v ...any) {
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "nats warning", text(format, v))
}

// Errorf implements server.Logger.
func (l *logger) Errorf(format string, v ...any) {
	if strings.Contains(format, "ritical write error") {
		select {
		case l.broken <- struct{}{}:
		default:
		}
	}
	l.log.LogAttrs(context.Background(), slog.LevelError, "nats error", text(format, v))
}

// Fatalf implements server.Logger.
func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- text(format, v).Value.String():
	default: // the first reason is enough
	}
}

// Debugf implements server.Logger.
func (l *logger) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (l *logger) Tracef(string, ...any) {}
