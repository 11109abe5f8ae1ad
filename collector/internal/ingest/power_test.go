package ingest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
)

// Without a sync of each write a NATS server finds files like this after a power
// cut, and then neither has the consumers nor makes them (`make chaos ARGS="-power
// -durability default -victims nats"`).
func TestConsumersWhoseFilesAPowerCutLeftEmptyAreMadeAgain(t *testing.T) {
	folder := t.TempDir()
	server, err := natstest.New(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	s := newSite(t, server.JetStream(t), 2)
	m := s.start(server.JetStream(t), s.streams)
	f := newTraffic(t, s.js)
	eventually(t, "it has both shards", 20*time.Second, func() bool { return held(m) == "2" })
	for range 2 { // what was made in memory is gone after the next start of the server
		stored := m.stored()
		f.send(50)
		eventually(t, "batches are stored", 30*time.Second, func() bool { return m.stored() > stored })
		server.Stop()
		files, err := filepath.Glob(filepath.Join(folder, "jetstream", "*", "streams", "EBBWATCH_FLOWS", "obs", "*", "*"))
		if err != nil || len(files) < 6 {
			t.Fatalf("the consumers have the files %q, %v", files, err)
		}
		for _, file := range files {
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
	}
	f.send(50)
	s.check(f)
}
