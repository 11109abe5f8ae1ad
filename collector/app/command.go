package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// Command returns the command tree of the collector.
func Command() *cobra.Command {
	root := &cobra.Command{Use: "collector", Short: "Move flow records from NATS into ClickHouse, each exactly once"}
	dlq := &cobra.Command{Use: "dlq", Short: "Look at the batches that were refused"}
	dlq.AddCommand(dlqList())
	root.AddCommand(run(), migrate(), dlq)
	return root
}

func run() *cobra.Command {
	return cli.Service[Config]{
		Use: "run", Short: "Run the collector until it is stopped", Default: DefaultConfig,
		Run: func(ctx context.Context, cfg Config, log *slog.Logger) error {
			a, err := New(cfg, log)
			if err != nil {
				return err
			}
			return a.Run(ctx)
		},
	}.Command()
}

// answerTimeout is how long a tool waits for a server before it gives up; a
// service waits for ever.
const answerTimeout = 10 * time.Second

func migrate() *cobra.Command {
	var cmd *cobra.Command
	cmd = cli.Service[Config]{
		Use: "migrate", Short: "Bring the database to the schema of this build, and say what was done", Default: DefaultConfig,
		Run: func(ctx context.Context, cfg Config, log *slog.Logger) error {
			a, err := New(cfg, log)
			if err != nil {
				return err
			}
			js, closeConn, err := connect(cfg, log)
			if err != nil {
				return err
			}
			defer closeConn()
			m, err := a.migrator(js)
			if err != nil {
				return err
			}
			applied, err := m.Run(ctx)
			for _, one := range applied {
				fmt.Fprintf(cmd.OutOrStdout(), "applied %s (%d steps)\n", one.File, len(one.Steps))
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "database %s at %s is up to date: %d applied now, %d in all\n",
				cfg.ClickHouse.Database, cfg.ClickHouse.Address, len(applied), len(m.Migrations))
			return nil
		},
	}.Command()
	return cmd
}

// connect returns JetStream of a NATS server that answers.
func connect(cfg Config, log *slog.Logger) (jetstream.JetStream, func(), error) {
	conn, err := natsconn.Connect("collector-tool", cfg.NATS, log)
	if err != nil {
		return nil, nil, err
	}
	if err := conn.FlushTimeout(answerTimeout); err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("NATS at %s does not answer: %w", cfg.NATS.URL, err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("use JetStream: %w", err)
	}
	return js, conn.Close, nil
}

func dlqList() *cobra.Command {
	var limit int
	var asJSON bool
	var cmd *cobra.Command
	cmd = cli.Service[Config]{
		Use: "list", Short: "List refused batches with the reason of each, oldest first", Default: DefaultConfig,
		Run: func(ctx context.Context, cfg Config, log *slog.Logger) error {
			if limit < 1 {
				return errors.New("--limit: must be at least 1")
			}
			js, closeConn, err := connect(cfg, log)
			if err != nil {
				return err
			}
			defer closeConn()
			return listLetters(ctx, js, cmd.OutOrStdout(), limit, asJSON)
		},
	}.Command()
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most the newest `n`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func listLetters(ctx context.Context, js jetstream.JetStream, w io.Writer, limit int, asJSON bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	encoder := json.NewEncoder(w)
	if !asJSON {
		fmt.Fprintln(table, "ID\tREFUSED\tSUBJECT\tBYTES\tREASON")
	}
	for l, err := range consume.Letters(ctx, js, limit) {
		if err != nil {
			return err
		}
		if asJSON {
			err = encoder.Encode(struct {
				ID        uint64    `json:"id"`
				Refused   time.Time `json:"refused"`
				Stored    time.Time `json:"stored"`
				Subject   string    `json:"subject"`
				MessageID string    `json:"message_id"`
				Bytes     int       `json:"bytes"`
				Reason    string    `json:"reason"`
			}{l.Sequence, l.Time, l.Stored, l.Subject, l.MessageID, len(l.Data), l.Reason})
		} else {
			_, err = fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%s\n", l.Sequence, l.Time.UTC().Format(time.RFC3339), l.Subject, len(l.Data), l.Reason)
		}
		if err != nil {
			return fmt.Errorf("list dead letters: %w", err)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("list dead letters: %w", err)
	}
	return nil
}

var _ config.Validator = (*Config)(nil)
