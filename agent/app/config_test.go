package app_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/agent/app"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

func TestDefaultsAreValidAndSurviveTheirDump(t *testing.T) {
	cfg := app.DefaultConfig()
	var dump bytes.Buffer
	if err := config.Dump(&dump, cfg); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, dump.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var loaded app.Config
	if err := config.Load(&loaded, file, nil); err != nil {
		t.Fatalf("%v\n%s", err, dump.String())
	}
	var again bytes.Buffer
	if err := config.Dump(&again, loaded); err != nil {
		t.Fatal(err)
	}
	if dump.String() != again.String() {
		t.Errorf("dumped\n%s\nloaded\n%s", dump.String(), again.String())
	}
}

func TestEnvironmentOverrides(t *testing.T) {
	cfg := app.DefaultConfig()
	err := config.Load(&cfg, "", []string{"EBBWATCH_NAME=edge-7", "EBBWATCH_DRAIN_INTERVAL=1s", "EBBWATCH_INTERFACES_INCLUDE=[eth*, wg0]", "EBBWATCH_DATAPATH_MAX_FLOWS=1000"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Name != "edge-7" || cfg.DrainInterval != time.Second || len(cfg.Interfaces.Include) != 2 || cfg.Datapath.MaxFlows != 1000 {
		t.Errorf("%+v", cfg)
	}
}

func TestErrorsNameTheKey(t *testing.T) {
	for _, c := range []struct {
		key    string
		adjust func(*app.Config)
	}{
		{"name", func(c *app.Config) { c.Name = "a.b" }},
		{"name", func(c *app.Config) { c.Name = "" }},
		{"drain_interval", func(c *app.Config) { c.DrainInterval = time.Millisecond }},
		{"drain_interval", func(c *app.Config) { c.DrainInterval = time.Hour }},
		{"queue_max_bytes", func(c *app.Config) { c.QueueMaxBytes = 100 }},
		{"flush_timeout", func(c *app.Config) { c.FlushTimeout = -1 }},
		{"spool.max_bytes", func(c *app.Config) { c.Spool.MaxBytes = 1 }},
		{"spool.dir", func(c *app.Config) { c.Spool.Dir = "spool" }},
		{"nats.url", func(c *app.Config) { c.NATS.URL = "" }},
		{"interfaces.include", func(c *app.Config) { c.Interfaces.Include = []string{"["} }},
		{"datapath.max_flows", func(c *app.Config) { c.Datapath.MaxFlows = 0 }},
		{"datapath.max_interfaces", func(c *app.Config) { c.Datapath.MaxInterfaces = 4000 }},
		{"datapath.attach", func(c *app.Config) { c.Datapath.Attach = "xdp" }},
		{"conversations.max_conversations", func(c *app.Config) { c.Conversations.MaxConversations = 0 }},
		{"conversations.idle_tcp", func(c *app.Config) { c.Conversations.IdleTCP = 0 }},
	} {
		cfg := app.DefaultConfig()
		c.adjust(&cfg)
		if _, err := app.New(cfg, slog.Default()); err == nil || !strings.Contains(err.Error(), c.key) {
			t.Errorf("%s: %v", c.key, err)
		}
	}
}
