// Package cli gives every Ebbwatch command the same face: the run command of a
// service with its configuration flags, the logger, and signals.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Service describes a long-running command.
type Service[C any] struct {
	Use, Short, Long string
	Default          func() C
	// Run blocks until ctx ends (SIGINT or SIGTERM) and has shut down.
	Run func(ctx context.Context, cfg C, log *slog.Logger) error
}

// Command returns the cobra command of s, with --config, --check, --dump-config,
// --log-level and --log-format.
func (s Service[C]) Command() *cobra.Command {
	var file, level, format string
	var check, dump bool
	cmd := &cobra.Command{Use: s.Use, Short: s.Short, Long: s.Long, Args: cobra.NoArgs}
	flags := cmd.Flags()
	flags.StringVarP(&file, "config", "c", "", "YAML configuration `file` (default: built-in values)")
	flags.BoolVar(&check, "check", false, "check the configuration and exit")
	flags.BoolVar(&dump, "dump-config", false, "print the effective configuration and exit")
	flags.StringVar(&level, "log-level", "info", "least `level` that is logged: debug, info, warn, error")
	flags.StringVar(&format, "log-format", "text", "log `format`: text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SilenceUsage = true
		log, err := Logger(cmd.ErrOrStderr(), level, format)
		if err != nil {
			return err
		}
		cfg := s.Default()
		if err := config.Load(&cfg, file, os.Environ()); err != nil {
			return err
		}
		switch {
		case dump:
			return config.Dump(cmd.OutOrStdout(), cfg)
		case check:
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "configuration is valid")
			return err
		}
		return s.Run(cmd.Context(), cfg, log)
	}
	return cmd
}

// Logger returns a logger that writes to w.
func Logger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", format)
}

// ExitError is an error with an exit status of its own and, if Err is nil,
// nothing to print.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Main runs root until it returns or SIGINT or SIGTERM ends its context, and
// returns the exit status. A second signal kills the process at once.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root.SilenceErrors = true
	root.Version = Version()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		if exit.Err != nil {
			fmt.Fprintln(os.Stderr, "error:", exit.Err)
		}
		return exit.Code
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	return 1
}

// version is set by the linker (-X …/internal/cli.version=v1.2.3).
var version string

// Version returns the version of this build.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "dev-" + s.Value[:12]
			}
		}
	}
	return "dev"
}
