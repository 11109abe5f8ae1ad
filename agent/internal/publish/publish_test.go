package publish_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/publish"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// startNATS starts a real server on port (0: any) with its data in dir.
func startNATS(t *testing.T, dir string, port int) *server.Server {
	t.Helper()
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return startServer(t, &server.Options{Port: port, StoreDir: dir})
}

// startServer starts a real server with JetStream on this host.
func startServer(t *testing.T, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.JetStream, opts.NoSigs = "127.0.0.1", true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS is not ready")
	}
	t.Cleanup(func() { stopNATS(s) })
	return s
}

func stopNATS(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func streamOf(t *testing.T, s *server.Server, maxBytes int64) jetstream.Stream {
	t.Helper()
	return createStream(t, s.ClientURL(), maxBytes)
}

// jetStream returns a connection of the test's own.
func jetStream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func createStream(t *testing.T, url string, maxBytes int64) jetstream.Stream {
	t.Helper()
	stream, err := jetStream(t, url).CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{
		Name: ebbwatch.FlowStream, Subjects: []string{ebbwatch.FlowSubjectPrefix + "*"},
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, MaxBytes: maxBytes,
	})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// stored returns the sequences of the batches in the stream, in its order.
func stored(t *testing.T, stream jetstream.Stream) (sequences []uint64, last ebbwatch.Batch) {
	t.Helper()
	var decoder ebbwatch.Decoder
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		if ebbwatch.PublishedSubject(msg.Subject) != ebbwatch.FlowSubject("host-a") {
			t.Errorf("subject %s", msg.Subject)
		}
		if err := decoder.Decode(msg.Data, &last); err != nil {
			t.Fatal(err)
		}
		if got := msg.Header.Get(nats.MsgIdHdr); got != last.MessageID() {
			t.Errorf("message id %s, want %s", got, last.MessageID())
		}
		sequences = append(sequences, last.Sequence)
	}
	return sequences, last
}

type harness struct {
	*publish.Publisher
	t    *testing.T
	reg  *prometheus.Registry
	stop func()
	done chan error
}

// start runs a publisher without a spool that talks to url.
func start(t *testing.T, url string, maxBytes int64) *harness {
	t.Helper()
	return startWith(t, url, publish.Config{QueueMaxBytes: maxBytes})
}

func startWith(t *testing.T, url string, cfg publish.Config) *harness {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	conn, err := natsconn.Connect("agent", natsconn.Config{URL: url}, log, nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	cfg.Agent, cfg.FlushTimeout = "host-a", time.Second
	reg := prometheus.NewRegistry()
	p, err := publish.New(cfg, conn, reg, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &harness{Publisher: p, t: t, reg: reg, stop: cancel, done: make(chan error, 1)}
	go func() { h.done <- p.Run(ctx) }()
	t.Cleanup(cancel)
	return h
}

// publish encodes and enqueues n batches of one flow.
func (h *harness) publish(n int) {
	h.t.Helper()
	for range n {
		h.batch(time.Now(), 1)
	}
}

// together publishes n batches of one flow as one drain does.
func (h *harness) together(n int) {
	h.t.Helper()
	var all []publish.Message
	for range n {
		all = append(all, h.encode(time.Now(), 1))
	}
	h.Enqueue(all...)
}

// batch encodes and enqueues a batch that was drained at the given time.
func (h *harness) batch(at time.Time, flows int) {
	h.t.Helper()
	h.Enqueue(h.encode(at, flows))
}

func (h *harness) encode(at time.Time, flows int) publish.Message {
	h.t.Helper()
	var b ebbwatch.Batch
	b.Time = at
	b.Sequence = h.NextSequence()
	b.Losses = h.Losses()
	for range flows {
		src := netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 8: byte(rand.Uint32()), 9: byte(rand.Uint32()), 10: byte(rand.Uint32()), 11: byte(rand.Uint32()), 12: byte(rand.Uint32()), 13: byte(rand.Uint32())})
		b.Append(&ebbwatch.Flow{Start: at, End: at, Src: src, Dst: netip.MustParseAddr("192.0.2.2"), SrcPort: uint16(rand.Uint32()), Proto: 6, Sampling: 1})
	}
	m, err := h.Encode(&b)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// metric returns the value of a metric without labels.
func (h *harness) metric(name string) uint64 {
	h.t.Helper()
	families, err := h.reg.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "ebbwatch_agent_"+name {
			m := f.GetMetric()[0]
			return uint64(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	h.t.Fatalf("no metric %s", name)
	return 0
}

func (h *harness) loss(losses []ebbwatch.Loss, name string) uint64 {
	h.t.Helper()
	for _, l := range losses {
		if l.Name == name {
			return l.Count
		}
	}
	h.t.Fatalf("no loss %s in %v", name, losses)
	return 0
}

func (h *harness) finish() {
	h.t.Helper()
	h.stop()
	select {
	case err := <-h.done:
		if err != nil {
			h.t.Error(err)
		}
	case <-time.After(5 * time.Second):
		h.t.Fatal("Run does not end")
	}
}

func upTo(n uint64) []uint64 {
	var s []uint64
	for i := uint64(1); i <= n; i++ {
		s = append(s, i)
	}
	return s
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen: " + what)
		}
	}
}

func messages(t *testing.T, stream jetstream.Stream) uint64 {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

func TestBatchesArriveInOrder(t *testing.T) {
	s := startNATS(t, t.TempDir(), 0)
	stream := streamOf(t, s, -1)
	h := start(t, s.ClientURL(), 1<<20)
	h.publish(100)
	h.finish() // delivers what is left
	if got, _ := stored(t, stream); !slices.Equal(got, upTo(100)) {
		t.Errorf("stored sequences %v", got)
	}
}

func TestNATSGoesAwayAndComesBack(t *testing.T) {
	dir := t.TempDir()
	s := startNATS(t, dir, 0)
	port := s.Addr().(*net.TCPAddr).Port
	stream := streamOf(t, s, -1)
	h := start(t, s.ClientURL(), 1<<20)
	h.publish(20)
	eventually(t, "the first batches are stored", func() bool { return messages(t, stream) == 20 })

	for round := range 3 {
		h.publish(10) // some of them in flight while the server goes down
		stopNATS(s)
		h.publish(30)
		s = startNATS(t, dir, port)
		stream = streamOf(t, s, -1)
		want := uint64(20 + 40*(round+1))
		eventually(t, fmt.Sprintf("round %d: %d batches are stored", round, want), func() bool { return messages(t, stream) >= want })
	}
	h.finish()
	got, last := stored(t, stream)
	slices.Sort(got)
	if !slices.Equal(got, upTo(140)) {
		t.Errorf("stored sequences %v, want 1 to 140, each once", got)
	}
	for _, l := range last.Losses {
		if l.Count != 0 {
			t.Errorf("loss %s: %d", l.Name, l.Count)
		}
	}
}

func TestStreamIsMadeLater(t *testing.T) {
	s := startNATS(t, t.TempDir(), 0)
	h := start(t, s.ClientURL(), 1<<20)
	h.publish(5)
	time.Sleep(300 * time.Millisecond) // long enough for the first attempt to fail
	stream := streamOf(t, s, -1)
	eventually(t, "the batches are stored", func() bool { return messages(t, stream) == 5 })
	h.finish()
	if got, _ := stored(t, stream); !slices.Equal(got, upTo(5)) {
		t.Errorf("stored sequences %v", got)
	}
}

func TestFullStreamDelaysButLosesNothing(t *testing.T) {
	s := startNATS(t, t.TempDir(), 0)
	stream := streamOf(t, s, 2000)
	h := start(t, s.ClientURL(), 1<<20)
	h.publish(20)
	eventually(t, "the stream is full", func() bool { n := messages(t, stream); return n > 0 && n < 20 })
	time.Sleep(100 * time.Millisecond)
	stream = streamOf(t, s, 1<<20)
	eventually(t, "the rest is stored", func() bool { return messages(t, stream) == 20 })
	h.finish()
	got, _ := stored(t, stream)
	slices.Sort(got)
	if !slices.Equal(got, upTo(20)) {
		t.Errorf("stored sequences %v", got)
	}
}

func TestQueueOverflowDropsTheOldestAndTellsDownstream(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a port where nothing answers
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	h := start(t, fmt.Sprintf("nats://127.0.0.1:%d", port), 10_000)
	h.publish(200)
	var dropped uint64
	for _, l := range h.Losses() {
		if l.Name == "queue_dropped_batches" {
			dropped = l.Count
		}
	}
	if dropped == 0 || dropped >= 200 {
		t.Fatalf("%d dropped", dropped)
	}
	stream := streamOf(t, startNATS(t, t.TempDir(), port), -1)
	eventually(t, "the rest is stored", func() bool { return messages(t, stream) >= 200-dropped-1 })
	h.publish(1)
	h.finish()
	got, last := stored(t, stream)
	if n := uint64(len(got)); n == 0 || got[n-1] != 201 || got[0] < dropped || !slices.IsSorted(got) {
		t.Errorf("stored sequences %v after %d dropped", got, dropped)
	}
	var told uint64
	for _, l := range last.Losses {
		if l.Name == "queue_dropped_batches" {
			told = l.Count
		}
	}
	if told+uint64(len(got)) != 201 {
		t.Errorf("%d stored and %d told lost, of 201", len(got), told)
	}
}

func TestEndsInTimeWithoutNATS(t *testing.T) {
	h := start(t, "nats://127.0.0.1:1", 1<<20)
	h.publish(3)
	begin := time.Now()
	h.finish()
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("took %v, FlushTimeout is 1 s", d)
	}
}

func TestInvalidBatchIsCountedNotSent(t *testing.T) {
	s := startNATS(t, t.TempDir(), 0)
	h := start(t, s.ClientURL(), 1<<20)
	var b ebbwatch.Batch
	b.Time, b.Sequence = time.Now(), h.NextSequence()
	b.Append(&ebbwatch.Flow{Start: b.Time, End: b.Time, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2")}) // sampling 0
	if _, err := h.Encode(&b); err == nil {
		t.Error("encoded a flow with sampling rate 0")
	}
	for _, l := range h.Losses() {
		if l.Name == "encode_failed_batches" && l.Count != 1 {
			t.Errorf("counted %d", l.Count)
		}
	}
}
