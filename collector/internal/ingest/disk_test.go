package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/collector/internal/stored"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

// smallDisk mounts a file system of so many bytes that ends with the test.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("ebbwatch-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount: %v", err)
		}
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fillDisk leaves so many bytes free in dir and returns what makes room again.
func fillDisk(t *testing.T, dir string, leave int64) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; size /= 16 {
		for piece := make([]byte, size); err == nil; {
			_, err = file.Write(piece)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate(info.Size() - leave); err != nil {
		t.Fatal(err)
	}
	file.Close()
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

func TestAFullDiskOfClickHouseHoldsBatchesUpAndLosesNone(t *testing.T) {
	// ClickHouse reserves 1 MiB before it writes.
	t.Run("when inserts fail", func(t *testing.T) { fullDisk(t, 0, "not enough space", 0, 1200<<10, 1500<<10) })
	// 5 % of 400 MiB
	t.Run("below the watermark", func(t *testing.T) { fullDisk(t, 5, "insert.min_free_percent", 18<<20) })
}

// fullDisk fills the disk of ClickHouse until so many bytes are left, some times,
// and wants the collector to say so, and everything to be stored in the end.
func fullDisk(t *testing.T, minFreePercent float64, says string, leaves ...int64) {
	t.Setenv("EBBWATCH_BIN", chtest.Binary(t))
	dir := smallDisk(t, 400<<20)
	ch, err := proctest.NewClickHouse(t.Context(), filepath.Join(dir, "clickhouse"), []string{"ebbwatch"}, testing.Verbose())
	if errors.Is(err, proctest.ErrNoEngine) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { ch.Stop() }()
	server := natstest.Start(t)
	conn := chconn.Config{Address: ch.Addr, Database: "ebbwatch", User: proctest.User, Password: config.Secret(ch.Password), Compression: "none"}
	js := server.JetStream(t)
	migrate(t, conn, js)
	streams := consume.DefaultConfig()
	streams.FlowMaxBytes, streams.DeadLetterMaxBytes, streams.AckWait = 64<<20, 16<<20, 2*time.Second
	if _, err := consume.Ensure(t.Context(), js, streams); err != nil {
		t.Fatal(err)
	}
	retry := sink.DefaultConfig()
	retry.RetryMax, retry.PressureInterval, retry.MinFreePercent = time.Second, 100*time.Millisecond, minFreePercent
	store := sink.NewWriter(retry, conn, slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry())
	cfg := DefaultConfig()
	cfg.BlockMessages, cfg.BlockAge = 20, 50*time.Millisecond
	g := &Ingester{
		Config: cfg, Streams: streams, JS: server.JetStream(t), Connect: backend(store, stored.NewTable(conn)),
		Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	var records, bytes uint64
	send := func(seed uint64, batches int) {
		r, b := publish(t, js, seed, batches, 200)
		records, bytes = records+r, bytes+b
	}
	wait := func(what string, ready func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !ready(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("after 30 s not %s", what)
			}
		}
	}
	send(1, 40)
	<-empty(t, js)
	for round, leave := range leaves {
		free := fillDisk(t, dir, leave)
		send(uint64(2+round), 100)
		wait("held up", func() bool { return store.Health() != nil })
		if text := store.Health().Error(); !strings.Contains(strings.ToLower(text), says) {
			t.Errorf("with %d bytes free it says %q, want %q", leave, text, says)
		}
		time.Sleep(time.Second) // it is repeated
		free()
		select {
		case <-empty(t, js):
		case <-time.After(30 * time.Second):
			t.Fatal("30 s after there was room again not everything is stored")
		}
	}
	for _, q := range []string{"SELECT count(), sum(src_bytes + dst_bytes) FROM ebbwatch.flows", "SELECT sum(records), sum(src_bytes + dst_bytes) FROM ebbwatch.flows_1m"} {
		var gotRecords, gotBytes uint64
		if err := ch.Conn.QueryRow(t.Context(), q).Scan(&gotRecords, &gotBytes); err != nil {
			t.Fatal(err)
		}
		if gotRecords != records || gotBytes != bytes {
			t.Errorf("%s gives %d records and %d bytes, sent were %d and %d", q, gotRecords, gotBytes, records, bytes)
		}
	}
}
