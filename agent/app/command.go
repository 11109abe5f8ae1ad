package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/doctor"
	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// Command returns the agent's command tree.
func Command() *cobra.Command {
	cmd := &cobra.Command{Use: "agent", Short: "Watch this host's network interfaces and send flow records to NATS", Args: cobra.NoArgs}
	cmd.AddCommand(runCommand(), doctorCommand(), replayCommand())
	return cmd
}

func runCommand() *cobra.Command {
	return cli.Service[Config]{
		Use:   "run",
		Short: "Run the agent",
		Long: `Run attaches BPF programs to this host's interfaces, makes flow records of what
they count, and publishes them to NATS JetStream. It needs ` + doctor.Needed + `, or root.
--dump-config prints an example of the configuration file.`,
		Default: DefaultConfig,
		Run: func(ctx context.Context, cfg Config, log *slog.Logger) error {
			a, err := New(cfg, log)
			if err != nil {
				return err
			}
			a.OwnProcess()
			return a.Run(ctx)
		},
	}.Command()
}

func doctorCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell whether the agent can run here, and which features work",
		Long: `Doctor tries every kernel feature and privilege that the agent uses, and the
connection to NATS. It exits with status 1 if the agent cannot run on this host;
that NATS is away does not count.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "YAML configuration `file` of the agent (default: built-in values)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of a table")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SilenceUsage = true
		cfg := DefaultConfig()
		if err := config.Load(&cfg, file, os.Environ()); err != nil {
			return err
		}
		report := doctor.Diagnose(privilegeFinding(&cfg), interfacesFinding(&cfg), natsFinding(cmd.Context(), cfg.NATS))
		write := report.WriteText
		if asJSON {
			write = report.WriteJSON
		}
		if err := write(cmd.OutOrStdout()); err != nil {
			return fmt.Errorf("print report: %w", err)
		}
		if !report.CanRun {
			return &cli.ExitError{Code: 1}
		}
		return nil
	}
	return cmd
}

// natsFinding tries the way out. The agent runs without it, too: batches wait.
// What is away is no fault of this host, and may be meant so.
func natsFinding(ctx context.Context, cfg natsconn.Config) doctor.Finding {
	f := doctor.Finding{Name: "nats", Purpose: "deliver batches; they wait on disk while it is away", Info: true}
	silent := slog.New(slog.DiscardHandler)
	nc, err := natsconn.Connect("agent-doctor", cfg, silent, nats.RetryOnFailedConnect(false), nats.MaxReconnects(0), nats.Timeout(3*time.Second))
	if err != nil {
		f.Detail = err.Error() // names the URL
		f.Advice = `nothing for "ebbwatch up", which brings a NATS server of its own; else start NATS with JetStream and the collector, or set nats.url`
		return f
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		_, err = js.Stream(ctx, ebbwatch.FlowStream)
	}
	if err != nil {
		f.Detail = fmt.Sprintf("%s answers, but stream %s: %v", nc.ConnectedUrlRedacted(), ebbwatch.FlowStream, err)
		f.Advice = "start the collector, which makes the stream, or allow this user to look it up"
		return f
	}
	f.Works, f.Detail = true, nc.ConnectedUrlRedacted()
	return f
}
