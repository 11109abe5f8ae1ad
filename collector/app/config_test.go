package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebbwatch/ebbwatch/internal/config"
)

func TestAllThatIsWrongInAConfigurationIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "collector.yaml")
	text := `nats: {url: "http://h"}
clickhouse:
  address: here
  database: a-b
streams: {shards: 0, prefetch_bytes: 1}
ingest: {inserts: 0, block_rows: 0}
insert: {timeout: 0s}
enrich: {interval: 0s, agents: [{agent: "a b"}]}
store: {retention_days: {flows: 1, flows_1h: 1}}
listen: nowhere
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	err := config.Load(&cfg, file, nil)
	if err == nil {
		t.Fatal("it is accepted")
	}
	for _, want := range []string{
		":1: nats.url: ", ":3: clickhouse.address: ", ":4: clickhouse.database: ", ":5: streams.shards: ", ":5: streams.prefetch_bytes: ", ":6: ingest.inserts: ", ":6: ingest.block_rows: ",
		":7: insert.timeout: ", ":8: enrich.interval: ", ":8: enrich.agents[0].agent: ", ":9: store.retention_days.flows: ", ":9: store.retention_days.flows_1h: ", ":10: listen: ",
	} {
		if strings.Count(err.Error(), file+want) != 1 {
			t.Errorf("%q is not told once", want)
		}
	}
	if n := strings.Count(err.Error(), "\n"); n != 13 {
		t.Errorf("13 errors take %d lines", n+1)
	}
	t.Log(err)
}
