package schedule

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// bucket returns a key-value bucket of a server in this process.
func bucket(t *testing.T) jetstream.KeyValue {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats is not ready")
	}
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: Bucket})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func TestMarksSurviveAndAreExact(t *testing.T) {
	marks := KVMarks{bucket(t)}
	if got, err := marks.Load(t.Context(), "scan"); err != nil || !got.IsZero() {
		t.Errorf("without a mark: %v, %v", got, err)
	}
	end := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := marks.Save(t.Context(), "scan", end); err != nil {
		t.Fatal(err)
	}
	if got, err := marks.Load(t.Context(), "scan"); err != nil || !got.Equal(end) {
		t.Errorf("mark: %v, %v; want %v", got, err, end)
	}
	if _, err := marks.KV.PutString(t.Context(), "mark.scan", "yesterday"); err != nil {
		t.Fatal(err)
	}
	if _, err := marks.Load(t.Context(), "scan"); err == nil {
		t.Error("a broken mark must be an error, not the beginning of time")
	}
}

func TestOneOfTwoAnalyzersWorksAndTheOtherTakesOver(t *testing.T) {
	kv := bucket(t)
	var working atomic.Int32
	start := func(name string) (cancel context.CancelFunc, began <-chan struct{}, ended chan struct{}) {
		ctx, cancel := context.WithCancel(t.Context())
		beginning := make(chan struct{}, 10)
		ended = make(chan struct{})
		lease := Lease{KV: kv, Key: "leader", Name: name, TTL: time.Second, Log: slog.New(slog.DiscardHandler)}
		go func() {
			defer close(ended)
			err := lease.Run(ctx, func(ctx context.Context) {
				if n := working.Add(1); n != 1 {
					t.Errorf("%d analyzers work", n)
				}
				beginning <- struct{}{}
				<-ctx.Done()
				working.Add(-1)
			})
			if err != nil {
				t.Error(err)
			}
		}()
		return cancel, beginning, ended
	}
	wait := func(what string, c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: not within 20 s", what)
		}
	}
	stopA, beganA, endedA := start("a")
	wait("a works", beganA)
	stopB, beganB, endedB := start("b")
	select {
	case <-beganB:
		t.Fatal("b works while a holds the lease")
	case <-time.After(2500 * time.Millisecond): // a renews
	}
	stopA()
	wait("a ends", endedA)
	wait("b takes over from a, who gave the lease back", beganB)

	// Somebody writes the key: b has lost it, and takes it again when the other is silent.
	if _, err := kv.PutString(t.Context(), "leader", "c"); err != nil {
		t.Fatal(err)
	}
	wait("b takes over from c, who is silent", beganB)
	stopB()
	wait("b ends", endedB)
	if _, err := kv.Get(t.Context(), "leader"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("the lease of an analyzer that ended: %v", err)
	}
}
