package app_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/agent/app"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

func execute(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	cmd := app.Command()
	cmd.SilenceErrors = true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(t.Output())
	err = cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestDoctorPrintsJSON(t *testing.T) {
	t.Setenv("EBBWATCH_NATS_URL", "nats://doctor:hunter2@127.0.0.1:1") // nothing answers
	out, err := execute(t, "doctor", "--json")
	var report struct {
		CanRun   bool `json:"can_run"`
		Findings []struct {
			Name   string
			Works  bool
			Info   bool
			Detail string
			Advice string
		}
	}
	if jsonErr := json.Unmarshal([]byte(out), &report); jsonErr != nil {
		t.Fatalf("%v\n%s", jsonErr, out)
	}
	var exit *cli.ExitError
	if report.CanRun != (err == nil) || err != nil && (!errors.As(err, &exit) || exit.Code == 0) {
		t.Errorf("can run: %v, error %v", report.CanRun, err)
	}
	last := report.Findings[len(report.Findings)-1]
	if last.Name != "nats" || last.Works || !last.Info || !strings.Contains(last.Detail, "connect to NATS at nats://doctor:xxxxx@127.0.0.1:1") ||
		strings.Contains(out, "hunter2") || !strings.Contains(last.Advice, `"ebbwatch up"`) {
		t.Errorf("NATS is away: %+v", last)
	}
}

func TestDumpedConfigurationPassesTheCheck(t *testing.T) {
	out, err := execute(t, "run", "--dump-config")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := execute(t, "run", "--config", file, "--check"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if err := os.WriteFile(file, []byte(out+"\ndrain_intervall: 3s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := execute(t, "run", "--config", file, "--check"); err == nil || !strings.Contains(err.Error(), "drain_intervall") || !strings.Contains(err.Error(), file) {
		t.Errorf("an unknown key: %v", err)
	}
}

// The real binary in a namespace: it starts without NATS, ends in time, and what
// it could not deliver is on disk, or lost and told.
func TestBinaryStartsAndEndsWithoutNATS(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	binary := buildAgent(t, "0")
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	for _, c := range []struct {
		name, spool string
		want        []string
	}{
		{"in memory", "", []string{"publishing fails, keeping batches in memory", "batches could not be delivered before the end and are lost"}},
		{"on disk", filepath.Join(t.TempDir(), "spool"), []string{"publishing fails, keeping batches on disk", "batches wait on disk for the next start"}},
		{"on disk, the second time", filepath.Join(t.TempDir(), "spool"), []string{"batches wait on disk for the next start"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			cmd := exec.CommandContext(t.Context(), binary, "run")
			cmd.Env = append(os.Environ(), "EBBWATCH_NATS_URL=nats://127.0.0.1:1", "EBBWATCH_FLUSH_TIMEOUT=1s", "EBBWATCH_DRAIN_INTERVAL=200ms",
				"EBBWATCH_LISTEN="+opsAddress, "EBBWATCH_SPOOL_DIR="+c.spool)
			cmd.Stderr = &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r := &running{t: t}
			r.watches(1)
			r.drains(2)
			begin := time.Now()
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v\n%s", err, log.String())
			}
			if d := time.Since(begin); d > 4*time.Second {
				t.Errorf("took %v to end", d)
			}
			for _, want := range c.want {
				if strings.Count(log.String(), want) != 1 {
					t.Errorf("want once in the log: %q\n%s", want, log.String())
				}
			}
		})
	}
}
