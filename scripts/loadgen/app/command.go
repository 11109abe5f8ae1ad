// Package app is the command of the load generator.
package app

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/loadgen"
)

// Command returns the command.
func Command() *cobra.Command {
	cfg := loadgen.DefaultConfig()
	var password string
	cmd := &cobra.Command{
		Use:   "loadgen",
		Short: "Play agents with seeded traffic against a NATS server",
		Long: "Send what a fleet of agents would: batches of flows, early warnings and coverage, each agent once an interval, on\n" +
			"its own subject, with message ids, sequences and boot ids as agents have them. The stream must exist: a collector\n" +
			"makes it. Every message is acknowledged at the end, or the exit status is not 0. The last line is JSON: what was sent.",
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Agents, "agents", cfg.Agents, "agents to play, 1 to 10000")
	flags.IntVar(&cfg.Flows, "flows", cfg.Flows, "flows of each agent in each interval")
	flags.DurationVar(&cfg.Interval, "interval", cfg.Interval, "time between two batches of an agent")
	flags.DurationVar(&cfg.Duration, "duration", cfg.Duration, "how long to send")
	flags.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "`seed` of the traffic")
	flags.StringVar(&cfg.NATS.URL, "nats", cfg.NATS.URL, "`url` of the server")
	flags.StringVar(&cfg.NATS.User, "user", "", "user `name` there")
	flags.StringVar(&password, "password", "", "its password, or file:/`path`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SilenceUsage = true
		cfg.NATS.Password = config.Secret(password)
		log, err := cli.Logger(cmd.ErrOrStderr(), "warn", "text")
		if err != nil {
			return err
		}
		var progress loadgen.Progress
		ctx, stop := context.WithCancel(cmd.Context())
		defer stop()
		go show(ctx, cmd, cfg, &progress)
		result, err := loadgen.Run(ctx, cfg, log, &progress)
		stop()
		if encodeErr := json.NewEncoder(cmd.OutOrStdout()).Encode(result); encodeErr != nil {
			return encodeErr
		}
		return err
	}
	return cmd
}

// show tells each second how far it is.
func show(ctx context.Context, cmd *cobra.Command, cfg loadgen.Config, progress *loadgen.Progress) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	began, before := time.Now(), uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		flows := progress.Flows.Load()
		fmt.Fprintf(cmd.ErrOrStderr(), "%4.0f of %.0f s: %d batches, %d flows, %d flows/s\n",
			time.Since(began).Seconds(), cfg.Duration.Seconds(), progress.Batches.Load(), flows, flows-before)
		before = flows
	}
}
