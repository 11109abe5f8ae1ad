package cli_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
