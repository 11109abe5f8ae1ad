package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/schedule"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

// backtestOptions are the flags of backtest.
type backtestOptions struct{ from, to, entity, out string }

func backtest() *cobra.Command {
	var o backtestOptions
	cmd := cli.Service[Config]{
		Use: "backtest", Short: "Run the detectors over stored flows as if it were then, and write what they find",
		Long: "Run the detectors over stored flows as if it were then. Each finding is written as one line of JSON; nothing is stored and nobody is told. " +
			"The same flows and the same times give the same findings.",
		Default: DefaultConfig,
		Run:     func(ctx context.Context, cfg Config, log *slog.Logger) error { return o.run(ctx, cfg, log, os.Stdout) },
	}.Command()
	flags := cmd.Flags()
	flags.StringVar(&o.from, "from", "", "begin of the `time`, as 2026-01-31T08:00:00Z")
	flags.StringVar(&o.to, "to", "", "end of the `time`")
	flags.StringVar(&o.entity, "entity", "", "write only findings about this `address`")
	flags.StringVar(&o.out, "out", "-", "`file` for the findings, - for standard output")
	for _, name := range []string{"from", "to"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag was defined above
		}
	}
	return cmd
}

func (o *backtestOptions) run(ctx context.Context, cfg Config, log *slog.Logger, stdout io.Writer) error {
	from, err := time.Parse(time.RFC3339, o.from)
	if err != nil {
		return fmt.Errorf("--from: %q is not a time such as 2026-01-31T08:00:00Z", o.from)
	}
	to, err := time.Parse(time.RFC3339, o.to)
	if err != nil {
		return fmt.Errorf("--to: %q is not a time such as 2026-01-31T08:00:00Z", o.to)
	}
	if !from.Before(to) {
		return errors.New("--from must be before --to")
	}
	if o.entity != "" {
		a, err := netip.ParseAddr(o.entity)
		if err != nil {
			return fmt.Errorf("--entity: %w", err)
		}
		o.entity = a.Unmap().String()
	}
	s, err := store.Open(cfg.ClickHouse)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Ping(ctx); err != nil {
		return err
	}
	began := time.Now()
	findings, err := schedule.Backtest(ctx, cfg.Detectors.list(s), s.Explain, cfg.Incidents, from, to)
	if err != nil {
		return err
	}
	log.Info("looked at the past", "from", from, "to", to, "findings", len(findings), "took", time.Since(began).Round(time.Millisecond))
	return o.write(stdout, findings)
}

// write writes one finding a line.
func (o *backtestOptions) write(stdout io.Writer, findings []detect.Finding) (err error) {
	out := stdout
	if o.out != "-" {
		f, err := os.Create(o.out)
		if err != nil {
			return fmt.Errorf("write findings: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	buffered := bufio.NewWriter(out)
	encoder := json.NewEncoder(buffered)
	for _, f := range findings {
		if o.entity != "" && f.Entity.Src != o.entity && f.Entity.Dst != o.entity {
			continue
		}
		if err := encoder.Encode(f); err != nil {
			return fmt.Errorf("write findings: %w", err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}
