// Package engine runs a local ClickHouse as a child process: a clickhouse
// binary if one is on PATH, else the same engine from a shared library.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
)

const (
	startAttempts = 3                // before the first start counts as failed
	startTimeout  = 90 * time.Second // of one attempt; a big store takes a while to load
	stopTimeout   = 2 * time.Second  // before the engine is killed; it would wait 5 s for an idle client, and loses nothing
	maxBackoff    = 30 * time.Second
)

// Names of the engine's users; their passwords are the data folder's secrets
// of the name SecretPrefix plus user. User Reader has none.
const (
	Collector    = "collector" // creates and migrates the tables
	Writer       = "writer"    // inserts what agents tell
	Analyzer     = "analyzer"
	Reader       = "reader"
	operator     = "operator"
	SecretPrefix = "clickhouse-"
)

// Engine is a local ClickHouse.
type Engine struct {
	cfg      Config
	dir      *datadir.Dir
	log      *slog.Logger
	ready    chan struct{}
	program  program
	password string // of user operator
}

// New returns an engine that keeps its data in dir.
func New(cfg Config, dir *datadir.Dir, log *slog.Logger) *Engine {
	return &Engine{cfg: cfg, dir: dir, log: log, ready: make(chan struct{})}
}

// Ready is closed when the engine has answered for the first time.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Run starts the engine, starts it again when it dies, and stops it in good
// order when ctx ends. It fails when the engine cannot be started at all: it is
// missing, a port is taken, or it ended before it answered.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.prepare(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		// PR_SET_PDEATHSIG is sent when the thread that started the child ends,
		// so this one lives as long as the engine, and serves nothing else. It
		// is not unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		// A clickhouse binary with file capabilities would lose the death
		// signal when it is executed, unless it gains none from them.
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			done <- fmt.Errorf("start engine: forbid new privileges: %w", err)
			return
		}
		done <- e.supervise(ctx)
	}()
	return <-done
}

// prepare does what needs no child: it finds the program, checks the ports and
// writes the configuration file.
func (e *Engine) prepare(ctx context.Context) (err error) {
	if e.program, err = e.cfg.locate(); err != nil {
		return err
	}
	if e.program.binary != "" {
		if err := checkVersion(ctx, e.program.binary); err != nil {
			return err
		}
	}
	for _, p := range e.Ports() {
		if err := p.Check(ctx); err != nil {
			return err
		}
	}
	folder, err := e.dir.Sub(dataFolder)
	if err != nil {
		return err
	}
	if e.cfg.SyncAlways {
		if err := canWriteThrough(folder); err != nil {
			return err
		}
	}
	if _, err := e.dir.Sub(logFolder); err != nil {
		return err
	}
	if !canConfine() && e.program.binary == "" {
		e.log.Warn("this kernel cannot confine clickhouse: any user of this host can read files through it",
			"instead", "Linux 5.19 or later with Landlock, or a clickhouse binary on PATH")
	}
	if err := checkTerminal(); err != nil && e.program.binary == "" {
		e.log.Warn("clickhouse gets no terminal: any user of this host can end it by a failed login, and it is started again each time",
			"error", err, "instead", "a devpts file system with /dev/ptmx, or a clickhouse binary on PATH")
	}
	access, err := e.access()
	if err != nil {
		return err
	}
	s := settings{
		Config: e.cfg, Path: folder, Access: access,
		LogFile: e.LogFile(), ErrorLogFile: e.dir.Path(logFolder, "clickhouse.err.log"), ConfigFile: e.configFile(),
		MaxMemoryBytes: e.cfg.memoryBytes(), MaxConnections: e.cfg.maxConnections(),
	}
	data, err := s.render()
	if err != nil {
		return err
	}
	if err := datadir.WriteFile(e.configFile(), data); err != nil {
		return fmt.Errorf("write engine settings: %w", err)
	}
	return nil
}

// Ports returns what the engine listens on.
func (e *Engine) Ports() []port.Port {
	return []port.Port{
		{Address: port.Loopback(e.cfg.TCPPort), Key: "clickhouse.tcp_port", Flag: "--clickhouse-port"},
		{Address: port.Loopback(e.cfg.HTTPPort), Key: "clickhouse.http_port", Flag: "--clickhouse-http-port"},
	}
}

// LogFile returns the path of the engine's log; it is rotated at 20 MB.
func (e *Engine) LogFile() string { return e.dir.Path(logFolder, "clickhouse.log") }

// Folders inside the data folder, mode 0700: all that the engine may write to.
const (
	dataFolder = "clickhouse"
	logFolder  = "clickhouse-log"
)

func (e *Engine) configFile() string { return e.dir.Path("clickhouse.xml") }

// configFolder returns the folder whose files ClickHouse merges into the
// configuration file, if it exists: settings of the administrator's own.
func configFolder(file string) string { return strings.TrimSuffix(file, ".xml") + ".d" }

// supervise runs the child again and again. It must be called on the locked thread.
func (e *Engine) supervise(ctx context.Context) error {
	backoff := 500 * time.Millisecond
	for attempt := 1; ; attempt++ {
		started := time.Now()
		err := e.runChild(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !e.answered() && attempt >= startAttempts {
			return fmt.Errorf("start engine: %w (see %s)", err, e.LogFile())
		}
		if time.Since(started) > time.Minute {
			backoff = 500 * time.Millisecond
		}
		e.log.Error("clickhouse ended, starting it again", "error", err, "wait", backoff)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func (e *Engine) answered() bool {
	select {
	case <-e.ready:
		return true
	default:
		return false
	}
}

// runChild runs the engine once. It returns nil if it stopped it because ctx
// ended, else why the engine ended.
func (e *Engine) runChild(ctx context.Context) error {
	n, err := forgetLostInserts(e.dir.Path(dataFolder))
	if err != nil {
		return err
	}
	if n > 0 {
		e.log.Warn("clickhouse was killed in the midst of inserts and would have ignored their repetition", "inserts", n)
	}
	var look <-chan time.Time
	if e.cfg.SyncAlways {
		if err := syncLogs(e.dir.Path(dataFolder)); err != nil {
			return err
		}
		tick := time.NewTicker(syncLogsEvery)
		defer tick.Stop()
		look = tick.C
	}
	c, err := e.startChild()
	if err != nil {
		return err
	}
	watch, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	answers := make(chan error, 1)
	go func() { answers <- e.await(watch) }()
	for {
		select {
		case <-c.done:
			return fmt.Errorf("the process ended: %w: %s", errors.Join(c.err), c.tail)
		case <-ctx.Done():
			e.stop(c)
			return nil
		case <-look:
			if err := syncLogs(e.dir.Path(dataFolder)); err != nil {
				e.log.Error("a power cut may double inserts", "error", err)
			}
		case err := <-answers:
			if err == nil {
				if !e.answered() {
					close(e.ready)
				}
				e.log.Info("clickhouse is ready", "address", port.Loopback(e.cfg.TCPPort), "pid", c.cmd.Process.Pid)
			} else if ctx.Err() == nil {
				e.kill(c)
				return fmt.Errorf("no answer within %s: %w", startTimeout, err)
			}
			answers = nil
		}
	}
}
