package app

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/natsd"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

func TestDeadLettersOfARunningEbbwatchAreFoundByItsFolder(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(free.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	// ask runs a tool for dead letters and returns all that it prints.
	ask := func(args ...string) (string, error) {
		root := Command()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&out)
		root.SilenceErrors = true
		root.SetArgs(append([]string{"collector", "dlq"}, args...))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	t.Setenv("EBBWATCH_NATS_URL", "nats://127.0.0.1:"+port) // nobody is there
	if _, err := ask("list"); err == nil || !strings.Contains(err.Error(), "--data") || !strings.Contains(err.Error(), "EBBWATCH_NATS_URL") {
		t.Errorf("without a server the error is %v", err)
	}
	t.Setenv("EBBWATCH_NATS_URL", "nats://127.0.0.1:1")

	folder := t.TempDir()
	if _, err := ask("list", "--data", folder); err == nil || !strings.Contains(err.Error(), "no Ebbwatch runs on the data folder "+folder) {
		t.Errorf("of a folder on which nothing runs the error is %v", err)
	}
	dir, err := datadir.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cfg := natsd.DefaultConfig()
	cfg.Listen = "127.0.0.1:" + port
	server := natsd.New(cfg, dir, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	}()
	select {
	case <-server.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("the server is not ready")
	}
	conn, err := natsconn.Connect("test", server.Client(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: ebbwatch.DeadLetterStream, Subjects: []string{ebbwatch.DeadLetterSubjectPrefix + ">"}, MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(folder))
	here := []string{"--data", filepath.Base(folder), "--nats-port", port}
	if out, err := ask(append([]string{"drop", "--all"}, here...)...); err != nil || !strings.Contains(out, "there are no dead letters\n") || strings.Contains(out, "connected to nats") {
		t.Errorf("drop of none: %v\n%s", err, out)
	}
	if _, err := js.Publish(t.Context(), ebbwatch.DeadLetterSubjectPrefix+"web-1.x", []byte("poison")); err != nil {
		t.Fatal(err)
	}
	if out, err := ask(append([]string{"list"}, here...)...); err != nil || !strings.Contains(out, "1 letters take") {
		t.Errorf("list: %v\n%s", err, out)
	}
	if out, err := ask(append([]string{"export", "--all"}, here...)...); err != nil || !strings.Contains(out, `"data":"cG9pc29u"`) {
		t.Errorf("export --all: %v\n%s", err, out)
	}
}
