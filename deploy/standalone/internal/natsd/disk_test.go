package natsd

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/deploy/standalone/internal/datadir"
)

func TestTheServerTakesMessagesAgainAfterItsDiskWasFull(t *testing.T) {
	folder := t.TempDir()
	if err := syscall.Mount("ebbwatch-test", folder, "tmpfs", 0, "size=67108864"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount: %v", err)
		}
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	dir, err := datadir.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cfg := freeConfig(t)
	cfg.MaxStoreMB = 32
	s, stop := runLogging(t, cfg, dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	defer stop()
	js, conn := connect(t, s)
	defer conn.Close()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Storage: jetstream.FileStorage, MaxBytes: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	publish := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(ctx, "s", make([]byte, 64<<10), jetstream.WithRetryAttempts(0))
		return err
	}
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(folder, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 64<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := publish(); err == nil {
		t.Fatal("a message is stored on a full disk")
	}
	time.Sleep(time.Second)
	if err := publish(); err == nil {
		t.Fatal("a message is stored on a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		err := publish()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("20 s after there is room again: %v", err)
		}
	}
	stream, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 2 {
		t.Errorf("the stream holds %d messages, want the first and the last", n)
	}
}
