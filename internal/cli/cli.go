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
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/internal/config"
)

// Service describes a long-running command.
type Service[C any] struct {
	Use, Short, Long string
	Default          func() C
	// Check, if set, is what --check does beyond the configuration itself: it
	// reports what would keep Run from starting, and changes nothing.
	Check func(ctx context.Context, cfg C) error
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
			if s.Check != nil {
				if err := s.Check(cmd.Context(), cfg); err != nil {
					return err
				}
			}
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
	opts := &slog.HandlerOptions{Level: l, ReplaceAttr: plainError}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", format)
}

// plainError makes an error the text that it returns. The handler for text would ask
// for more (%+v), which some libraries answer with the files and lines that made it.
func plainError(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindAny {
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(err.Error())
		}
	}
	return a
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

// Main runs root until it returns or a signal ends its context: SIGINT, SIGTERM,
// or the SIGHUP of a closed terminal. It returns the exit status. A second signal
// kills the process at once.
func Main(root *cobra.Command) int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as it is under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, stop)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = Version()
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		text := err.Error()
		if number := (*strconv.NumError)(nil); errors.As(err, &number) { // Go's words about a number
			text = strings.ReplaceAll(text, number.Error(), "want a whole number within the range of the flag")
		}
		return fmt.Errorf("%s (see %s --help)", text, cmd.CommandPath())
	})
	refuseUnknown(root)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		if exit.Err != nil {
			fmt.Fprintln(os.Stderr, "error:", Visible(exit.Err.Error()))
		}
		return exit.Code
	}
	fmt.Fprintln(os.Stderr, "error:", Visible(err.Error()))
	return 1
}

// Visible returns s for a terminal: what does not print, but ends of lines, is
// escaped as in Go. Names of files, and what is in them, are others' words.
func Visible(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == '\n' || unicode.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			b.WriteString(s[:size])
		} else {
			quoted := strconv.Quote(s[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}

// refuseUnknown makes a command that only has subcommands refuse a word that is
// none of them, and every command that refuses its arguments name its help. Left
// to itself, cobra prints the help in the first case and succeeds.
func refuseUnknown(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		refuseUnknown(sub)
	}
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q (see %s --help)", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		}
	}
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
