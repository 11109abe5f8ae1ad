// Package app is the command tree of the lab.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/internal/cli"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/demo"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/model"
)

// Command returns the command tree.
func Command() *cobra.Command {
	root := &cobra.Command{
		Use:   "lab",
		Short: "Play ordinary traffic and attacks in network namespaces, to show and to test Ebbwatch",
	}
	root.AddCommand(demoCommand(false), demoCommand(true))
	return root
}

// demoCommand returns `demo`, or `demo-llm`: the same with a small real model
// that words the report.
func demoCommand(withModel bool) *cobra.Command {
	opts, server := demo.Defaults(), model.Defaults()
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Attack a lab and show what Ebbwatch finds and reports",
		Long: "Build a lab of five hosts, run `ebbwatch up` on one of them, play ordinary traffic and then four attacks,\n" +
			"and wait until each is found and its report has reached a webhook receiver. The last line is JSON; the exit\n" +
			"status is 0 only if all were found, nothing else was, and the report arrived. With EBBWATCH_LLM_BASE_URL\n" +
			"and EBBWATCH_LLM_API_KEY set that model words the report.",
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Bin, "bin", opts.Bin, "`path` of the ebbwatch binary")
	flags.DurationVar(&opts.Calm, "calm", opts.Calm, "ordinary traffic alone before the first attack")
	flags.DurationVar(&opts.Limit, "limit", opts.Limit, "time limit of the whole")
	flags.Uint64Var(&opts.Seed, "seed", opts.Seed, "`seed` of the ordinary traffic's rhythm")
	flags.StringSliceVar(&opts.Attacks, "attacks", nil, "attacks to play: scan, flood, beacon, upload (default all)")
	flags.StringVar(&opts.Page, "page", opts.Page, "`host:port` on this machine where the page is shown; another port if it is taken")
	flags.BoolVar(&opts.Keep, "keep", false, "afterwards keep the lab and the page running until Ctrl-C")
	flags.StringVar(&opts.DataDir, "data", "", "`folder` for data, configuration and log, kept afterwards (default: a temporary one)")
	flags.StringVar(&opts.Screenshot, "screenshot", "", "write a picture of the page to this PNG `file` (needs chromium)")
	if withModel {
		cmd.Use, cmd.Short = "demo-llm", "The same as demo, with a small real language model that words the report"
	} else {
		flags.BoolVar(&withModel, "llm", false, "start a small real language model on loopback that words the report")
	}
	flags.StringVar(&server.Name, "model", server.Name, "model to start: gemma3, smollm2 or a .gguf `file`")
	flags.StringVar(&server.Scripts, "scripts", server.Scripts, "`folder` with setup-llm.sh and llm-server.py")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SilenceUsage = true
		opts.Out = cmd.OutOrStdout()
		if !withModel {
			return play(cmd.Context(), opts)
		}
		server.Out = opts.Out
		running, err := model.Start(cmd.Context(), server)
		if err != nil {
			return err
		}
		// A model on a processor that it shares with all the rest needs its time.
		opts.LLM = demo.LLM{BaseURL: running.BaseURL(), APIKey: "none-needed", Model: server.Name, Timeout: 90 * time.Second}
		if !cmd.Flags().Changed("limit") {
			opts.Limit = 2 * opts.Limit
		}
		return errors.Join(play(cmd.Context(), opts), running.Stop())
	}
	return cmd
}

// play runs the demonstration and prints its result as the last line. A failure
// is told before it.
func play(ctx context.Context, opts demo.Options) error {
	res, err := demo.Run(ctx, opts)
	if errors.Is(err, context.Canceled) {
		return &cli.ExitError{Code: 130, Err: errors.New("interrupted; the lab is gone")}
	}
	if err != nil && !errors.Is(err, demo.ErrFailed) {
		return err
	}
	if err != nil {
		fmt.Fprintln(opts.Out, "FAILED:", err)
		err = &cli.ExitError{Code: 1}
	}
	return errors.Join(printResult(opts.Out, res), err)
}

func printResult(w io.Writer, res demo.Result) error {
	line, err := json.Marshal(res)
	if err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s\n", line); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}
