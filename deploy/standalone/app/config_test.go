package app

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/port"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

func TestADumpedConfigurationIsAccepted(t *testing.T) {
	var dump bytes.Buffer
	def := DefaultConfig()
	def.Complete()
	if err := config.Dump(&dump, def); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ebbwatch.yaml")
	if err := os.WriteFile(file, dump.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	if err := config.Load(&cfg, file, nil); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := config.Dump(&again, cfg); err != nil {
		t.Fatal(err)
	}
	if again.String() != dump.String() {
		t.Errorf("loading a dump changed it:\n%s\nwas\n%s", again.String(), dump.String())
	}
}

func TestABrokenConfigurationNamesFileKeyAndReason(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		environ    []string
		want       []string
	}{
		{"an unknown key", "data_dir: /x\ncollecter: {}\n", nil, []string{"collecter", "no such key"}},
		{"a port out of range", "clickhouse: {tcp_port: 70000}\n", nil, []string{"clickhouse.tcp_port", "70000"}},
		{"one port twice", "clickhouse: {tcp_port: 9, http_port: 9}\n", nil, []string{"clickhouse.http_port"}},
		{"an address without a port", "nats: {listen: localhost}\n", nil, []string{"nats.listen", "host:port"}},
		{"an empty data folder", "data_dir: ''\n", nil, []string{"data_dir"}},
		{"a database that would need quoting", "clickhouse: {databases: ['a b']}\n", nil, []string{"clickhouse.databases", "a b"}},
		{"a connection that is not a choice", "agent: {nats: {url: 'nats://elsewhere:4222'}}\n", nil, []string{"agent.nats", "not a choice"}},
		{"a key without effect", "agent: {memory_limit: 50000000}\n", nil, []string{"agent.memory_limit", "has no effect here"}},
		{"more inserts than connections", "collector: {ingest: {inserts: 17}}\n", nil, []string{"collector.ingest.inserts", "16"}},
		{"a wrong key of a part", "agent: {drain_interval: 1ns}\n", nil, []string{"agent.drain_interval"}},
		{"a variable of the wrong type", "", []string{"EBBWATCH_CLICKHOUSE_TCP_PORT=x"}, []string{"EBBWATCH_CLICKHOUSE_TCP_PORT"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "ebbwatch.yaml")
			if err := os.WriteFile(file, []byte(c.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := DefaultConfig()
			err := config.Load(&cfg, file, c.environ)
			if err == nil {
				t.Fatal("accepted")
			}
			if len(c.environ) == 0 && !strings.Contains(err.Error(), file) {
				t.Errorf("%q does not name the file", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not contain %q", err, want)
				}
			}
		})
	}
}

func TestFlagsWinOverTheEnvironment(t *testing.T) {
	for _, f := range portFlags {
		t.Setenv(f.variable, "") // restored after the test
	}
	t.Setenv("EBBWATCH_ANALYZER_LISTEN", "127.0.0.1:1")
	t.Setenv("EBBWATCH_CLICKHOUSE_HTTP_PORT", "18464")
	t.Setenv("EBBWATCH_CLICKHOUSE_TCP_PORT", "18463")
	t.Setenv("EBBWATCH_AGENT_LISTEN", "127.0.0.1:18461")
	t.Setenv("EBBWATCH_COLLECTOR_LISTEN", "127.0.0.1:18462")
	t.Setenv("EBBWATCH_NATS_LISTEN", "127.0.0.1:18465")
	t.Setenv("EBBWATCH_DATA_DIR", "/from/environment")
	cmd := upCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	t.Chdir("/")
	cmd.SetArgs([]string{"--dump-config", "--data", "from/flag", "--page-port", "19460", "--clickhouse-port", "19463"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"data_dir: /from/flag\n", "dir: /from/flag/agent/spool\n", "listen: 127.0.0.1:19460\n", "tcp_port: 19463\n", "http_port: 18464\n", "listen: 127.0.0.1:18461\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the dump lacks %q:\n%s", want, out.String())
		}
	}
}

func TestADumpShowsWhatIsInForceAndNothingElse(t *testing.T) {
	cfg := DefaultConfig()
	if err := config.Load(&cfg, "", []string{"EBBWATCH_DATA_DIR=/elsewhere"}); err != nil {
		t.Fatal(err)
	}
	var dump bytes.Buffer
	if err := config.Dump(&dump, cfg); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"nats://", "user:", "address:", "drop_privileges", "memory_limit:"} {
		if strings.Contains(dump.String(), gone) {
			t.Errorf("the dump holds %q, which has no effect", gone)
		}
	}
	for _, want := range []string{"dir: /elsewhere/agent/spool\n", "compression: none\n", "flush_timeout: 1.7s\n", "drain_timeout: 1.2s\n"} {
		if !strings.Contains(dump.String(), want) {
			t.Errorf("the dump lacks %q", want)
		}
	}
}

func TestSyncAlwaysIsOneSwitchForAllThatStores(t *testing.T) {
	for _, c := range []struct {
		environ          []string
		nats, clickhouse bool
	}{
		{nil, false, false},
		{[]string{"EBBWATCH_SYNC_ALWAYS=true"}, true, true},
		{[]string{"EBBWATCH_NATS_SYNC_ALWAYS=true"}, true, false},
		{[]string{"EBBWATCH_CLICKHOUSE_SYNC_ALWAYS=true"}, false, true},
	} {
		cfg := DefaultConfig()
		if err := config.Load(&cfg, "", c.environ); err != nil {
			t.Fatal(err)
		}
		if cfg.NATS.SyncAlways != c.nats || cfg.ClickHouse.SyncAlways != c.clickhouse {
			t.Errorf("%v: nats %v, clickhouse %v", c.environ, cfg.NATS.SyncAlways, cfg.ClickHouse.SyncAlways)
		}
	}
}

func TestCheckFindsPortsThatCannotBeHad(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, busy, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		command *cobra.Command
		args    []string
		want    string
	}{
		{"two parts on one port", upCommand(), []string{"--agent-port", "28461", "--collector-port", "28461"}, "agent.listen and collector.listen both want port 28461"},
		{"a port that is in use", upCommand(), []string{"--page-port", busy}, "something else listens on 127.0.0.1:" + busy},
		{"a port of the engine in use", engineCommand(), []string{"--clickhouse-port", busy}, "something else listens on 127.0.0.1:" + busy},
		{"an empty folder", upCommand(), []string{"--data", ""}, "--data names no folder"},
		{"no port", upCommand(), []string{"--page-port", "0"}, "want a port from 1 to 65535"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("EBBWATCH_DATA_DIR", "/somewhere") // restored after the test, as what the flags set
			for i, f := range portFlags {
				t.Setenv(f.variable, strconv.Itoa(28460+i))
				if f.asAddress {
					t.Setenv(f.variable, port.Loopback(28460+i))
				}
			}
			c.command.SetArgs(append([]string{"--check"}, c.args...))
			c.command.SilenceErrors, c.command.SilenceUsage = true, true
			if err := c.command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAFolderOnWhichEbbwatchRunsIsNamed(t *testing.T) {
	held, free := t.TempDir(), t.TempDir()
	dir, err := datadir.Open(held)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	file := filepath.Join(free, "flows.csv")
	if err := os.WriteFile(file, []byte("start,src_ip,dst_ip\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	process := "process " + strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name    string
		command *cobra.Command
		args    []string
		want    string
	}{
		{"up --check beside it", upCommand(), []string{"--check", "--data", held}, "Ebbwatch itself runs on " + held + " as " + process},
		{"engine --check beside it", engineCommand(), []string{"--check", "--data", held}, "Ebbwatch itself runs on " + held + " as " + process},
		{"an import elsewhere", importCommand(), []string{"csv", "--data", free, file}, "no Ebbwatch runs on the data folder " + free},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("EBBWATCH_DATA_DIR", "/somewhere") // restored after the test, as what the flags set
			c.command.SetArgs(c.args)
			c.command.SilenceErrors, c.command.SilenceUsage = true, true
			if err := c.command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
