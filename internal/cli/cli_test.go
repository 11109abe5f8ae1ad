package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/internal/cli"
)

type conf struct {
	Rows int `yaml:"rows"`
}

func execute(t *testing.T, args ...string) (ran *conf, out string, err error) {
	t.Helper()
	cmd := cli.Service[conf]{
		Use: "run", Short: "run it",
		Default: func() conf { return conf{Rows: 7} },
		Run: func(_ context.Context, c conf, log *slog.Logger) error {
			log.Info("running")
			ran = &c
			return nil
		},
	}.Command()
	var buf bytes.Buffer
	cmd.SetOut(&buf)
	cmd.SetErr(&buf)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return ran, buf.String(), err
}

func TestServiceFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("rows: 8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("runs with the file's values", func(t *testing.T) {
		ran, out, err := execute(t, "--config", file, "--log-format", "json")
		if err != nil || ran == nil || ran.Rows != 8 || !strings.Contains(out, `"msg":"running"`) {
			t.Errorf("got %v, %q, %v", ran, out, err)
		}
	})
	t.Run("check does not run", func(t *testing.T) {
		ran, out, err := execute(t, "-c", file, "--check")
		if err != nil || ran != nil || out != "configuration is valid\n" {
			t.Errorf("got %v, %q, %v", ran, out, err)
		}
	})
	t.Run("dump prints what is in force and does not run", func(t *testing.T) {
		ran, out, err := execute(t, "-c", file, "--dump-config")
		if err != nil || ran != nil || out != "rows: 8\n" {
			t.Errorf("got %v, %q, %v", ran, out, err)
		}
	})
	for _, args := range [][]string{{"--log-level", "loud"}, {"--log-format", "xml"}, {"surplus"}, {"-c", "/nonexistent"}} {
		t.Run("refuses "+strings.Join(args, " "), func(t *testing.T) {
			if ran, _, err := execute(t, args...); err == nil || ran != nil {
				t.Errorf("got %v, %v", ran, err)
			}
		})
	}
}

// TestMain lets this binary be a command of its own for the tests of Main.
func TestMain(m *testing.M) {
	if os.Getenv("EBBWATCH_TEST_CLI") == "" {
		os.Exit(m.Run())
	}
	root := &cobra.Command{Use: "tool"}
	group := &cobra.Command{Use: "group"}
	wait := cli.Service[conf]{
		Use: "wait", Default: func() conf { return conf{} },
		Run: func(ctx context.Context, _ conf, _ *slog.Logger) error {
			fmt.Println("waiting")
			<-ctx.Done()
			fmt.Println("drained")
			return nil
		},
	}.Command()
	wait.Flags().Int("port", 0, "")
	fail := &cobra.Command{Use: "fail", RunE: func(*cobra.Command, []string) error {
		return &cli.ExitError{Code: 3, Err: errors.New("no luck")}
	}}
	group.AddCommand(wait, fail)
	root.AddCommand(group)
	os.Exit(cli.Main(root))
}

func tool(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "EBBWATCH_TEST_CLI=1")
	return cmd
}

func TestMainRefusesInOneLine(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"group bogus", 1, "error: unknown command \"bogus\" (see tool group --help)\n"},
		{"bogus", 1, "error: unknown command \"bogus\" (see tool --help)\n"},
		{"group wait surplus", 1, "error: unknown command \"surplus\" for \"tool group wait\" (see tool group wait --help)\n"},
		{"group wait --port abc", 1, "(see tool group wait --help)\n"},
		{"group fail", 3, "error: no luck\n"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			out, err := tool(t, strings.Fields(tt.args)...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != tt.code {
				t.Errorf("got %v, want exit status %d", err, tt.code)
			}
			if !strings.HasSuffix(string(out), tt.want) || strings.Count(string(out), "\n") != 1 {
				t.Errorf("got %q, want one line that ends in %q", out, tt.want)
			}
		})
	}
}

func TestSignalsDrain(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := tool(t, "group", "wait")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			if !lines.Scan() || lines.Text() != "waiting" {
				t.Fatalf("got %q", lines.Text())
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if !lines.Scan() || lines.Text() != "drained" {
				t.Errorf("after %v: got %q", sig, lines.Text())
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("after %v: %v", sig, err)
			}
		})
	}
}

func TestOthersWordsDoNothingToATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain, with ünïcode":        "plain, with ünïcode",
		"two\nlines":                 "two\nlines",
		"\x1b[2J\x1b]0;title\a":      `\x1b[2J\x1b]0;title\a`,
		"right \u202e to left":       `right \u202e to left`,
		"no UTF-8: \xff, \ufffd, \r": `no UTF-8: \xff, ` + "\ufffd" + `, \r`,
		"\u009b31m C1":               `\u009b31m C1`,
	} {
		if got := cli.Visible(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// traced is an error of a library that tells more if it is asked for more.
type traced struct{}

func (traced) Error() string { return "refused" }

func (traced) Format(s fmt.State, _ rune) {
	text := "refused"
	if s.Flag('+') {
		text += "\n    library.go:12"
	}
	_, _ = io.WriteString(s, text)
}

func TestAnErrorInTheLogIsItsText(t *testing.T) {
	for format, want := range map[string]string{"text": `error="insert: refused"`, "json": `"error":"insert: refused"`} {
		var out bytes.Buffer
		log, err := cli.Logger(&out, "info", format)
		if err != nil {
			t.Fatal(err)
		}
		log.Warn("insert failed", "error", errors.Join(fmt.Errorf("insert: %w", traced{})))
		log.Warn("insert failed", "error", traced{}, "seconds", 2)
		if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "library.go") || !strings.Contains(out.String(), "refused") {
			t.Errorf("as %s the log is %s", format, &out)
		}
	}
}
