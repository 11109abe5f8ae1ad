package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/engine"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/progress"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

// upCommand returns the command that runs everything.
func upCommand() *cobra.Command {
	cmd := cli.Service[Config]{
		Use:   "up",
		Short: "Run all of Ebbwatch on this host, in one process",
		Long: "Run an agent on this host's interfaces, NATS with JetStream, ClickHouse (as a child process), a collector\n" +
			"and an analyzer with its page. All of it listens on loopback and keeps its data in one folder.\n" +
			"Ctrl-C drains and stops everything; a second Ctrl-C ends at once.",
		Default: DefaultConfig,
		Check:   func(ctx context.Context, cfg Config) error { return checkStart(ctx, cfg, ports(cfg)) },
		Run:     Up,
	}.Command()
	// The terminal is for progress and for problems.
	level := cmd.Flags().Lookup("log-level")
	level.DefValue = "warn"
	_ = level.Value.Set(level.DefValue) // a string takes any value
	addFlags(cmd, false)
	return cmd
}

// checkStart reports what would keep a command from starting: that Ebbwatch runs
// on the folder already, or that another process has a port.
func checkStart(ctx context.Context, cfg Config, ports []port.Port) error {
	switch holder, err := datadir.Holder(cfg.DataDir); {
	case err != nil:
		return err
	case holder != "":
		return fmt.Errorf("%w: Ebbwatch itself runs on %s as process %s, and has its ports. The configuration is valid", datadir.ErrInUse, cfg.DataDir, holder)
	}
	return port.CheckAll(ctx, ports)
}

// Up runs everything until ctx ends, and then stops it within ten seconds: the
// agent first, so that what it saw is still stored. It reports progress on
// standard error. If a part fails all of it ends, with that error.
func Up(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	report := progress.New(os.Stderr)
	if err := checkPrivileges(); err != nil {
		return err
	}
	if err := cfg.ClickHouse.Find(); err != nil {
		return err
	}
	dir, err := datadir.Open(cfg.DataDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := port.CheckAll(ctx, ports(cfg)); err != nil {
		return err
	}
	parts, err := compose(cfg, dir, log)
	if err != nil {
		return err
	}
	s := newStack(report, log)
	defer func() {
		stopErr := s.stop()
		switch {
		case err != nil: // what ended us is the news, not trouble on the way out
			log.Debug("parts did not stop cleanly", "error", stopErr)
		case stopErr != nil:
			err = stopErr
		default:
			report.Line("Ebbwatch has stopped; its data is in %s", dir.Path())
		}
	}()
	for _, p := range parts {
		if err := s.start(ctx, p); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	report.Line("%s", banner(cfg, dir))
	err = s.wait(ctx)
	if err == nil {
		report.Line("stopping (Ctrl-C again ends at once)")
	}
	return err
}

// ports returns what the parts will listen on.
func ports(cfg Config) []port.Port {
	return append(engine.New(cfg.ClickHouse, nil, nil).Ports(), cfg.NATS.Port(),
		port.Port{Address: cfg.Analyzer.Listen, Key: "analyzer.listen", Flag: "--page-port"},
		port.Port{Address: cfg.Agent.Listen, Key: "agent.listen", Flag: "--agent-port"},
		port.Port{Address: cfg.Collector.Listen, Key: "collector.listen", Flag: "--collector-port"},
	)
}

// banner says where everything is.
func banner(cfg Config, dir *datadir.Dir) string {
	http := "http://" + port.Loopback(cfg.ClickHouse.HTTPPort)
	return fmt.Sprintf(`Ebbwatch is running; Ctrl-C stops it.
  page        http://%s
  ClickHouse  native %s, HTTP %s (user reader, no password, database %s)
  data        %s
  ask         curl -s '%s/?user=reader&database=%s' -d 'SELECT src_ip, dst_ip, dst_port, sum(bytes) AS total FROM flows GROUP BY ALL ORDER BY total DESC LIMIT 10 FORMAT PrettyCompact'`,
		cfg.Analyzer.Listen, port.Loopback(cfg.ClickHouse.TCPPort), http, cfg.ClickHouse.Database(), dir.Path(), http, cfg.ClickHouse.Database())
}
