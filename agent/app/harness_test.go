package app_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/app"
)

// running is an agent in the test's namespace with a real NATS server beside it.
type running struct {
	t      *testing.T
	broker *broker
	stream jetstream.Stream
	stop   context.CancelFunc
	done   chan error
	told   <-chan error // everything is delivered
	ops    string       // address, "" for opsAddress

	batches  int               // that finish read
	overflow ebbwatch.Counter  // that they tell of
	sources  []ebbwatch.Source // of whole drain intervals
}

const (
	opsAddress = "127.0.0.1:8461"
	patience   = 2 * time.Minute // an emulated machine is slow: loading alone took it half a minute once
)

// output is the test's, until it ends: callbacks of a connection that was closed
// may still want to say so.
func output(t *testing.T) io.Writer {
	o := &untilTheEnd{to: t.Output()}
	t.Cleanup(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.to = io.Discard
	})
	return o
}

type untilTheEnd struct {
	mu sync.Mutex
	to io.Writer
}

func (o *untilTheEnd) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.to.Write(p)
}

// broker is a real NATS server that keeps its port and its data when it is started again.
type broker struct {
	t    *testing.T
	opts server.Options
	s    *server.Server
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{t: t, opts: server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true}}
	b.start()
	b.opts.Port = b.s.Addr().(*net.TCPAddr).Port
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	opts := b.opts
	var err error
	if b.s, err = server.NewServer(&opts); err != nil {
		b.t.Fatal(err)
	}
	b.s.Start()
	if !b.s.ReadyForConnections(patience) {
		b.t.Fatal("NATS is not ready")
	}
}

func (b *broker) stop() {
	b.s.Shutdown()
	b.s.WaitForShutdown()
}

func (b *broker) url() string { return fmt.Sprintf("nats://%s:%d", b.opts.Host, b.opts.Port) }

// stream returns the agents' stream, made if it is not there.
func (b *broker) stream() jetstream.Stream {
	b.t.Helper()
	nc, err := nats.Connect(b.url(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.t.Fatal(err)
	}
	stream, err := js.CreateOrUpdateStream(b.t.Context(), jetstream.StreamConfig{Name: ebbwatch.FlowStream, Subjects: []string{ebbwatch.FlowSubjectPrefix + "*"}, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		b.t.Fatal(err)
	}
	return stream
}

func runAgent(t *testing.T, adjust func(*app.Config), log ...*slog.Logger) *running {
	t.Helper()
	b := newBroker(t)
	stream := b.stream()
	cfg := app.DefaultConfig()
	cfg.Name, cfg.NATS.URL, cfg.Listen, cfg.DrainInterval = "host-a", b.url(), opsAddress, 200*time.Millisecond
	cfg.Spool.Dir = filepath.Join(t.TempDir(), "spool")
	if adjust != nil {
		adjust(&cfg)
	}
	log = append(log, slog.New(slog.NewTextHandler(output(t), nil)))
	a, err := app.New(cfg, log[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, broker: b, stream: stream, stop: cancel, done: make(chan error, 1), told: a.Delivered()}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- a.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended: // before the server that it talks to
		case <-time.After(patience):
			t.Error("the agent does not end")
		}
	})
	return r
}

// watches waits until the agent watches n interfaces.
func (r *running) watches(n int) {
	r.t.Helper()
	r.shows(fmt.Sprintf("\nebbwatch_agent_interfaces %d\n", n), true)
}

// shows waits until the agent's metrics contain text, or no longer do.
func (r *running) shows(text string, want bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		metrics := r.get("/metrics")
		if strings.HasPrefix(metrics, "#") && strings.Contains(metrics, text) == want {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the agent's metrics contain %q: not %v; they are:\n%s", text, want, metrics)
		}
	}
}

func (r *running) metric(name string) uint64 {
	r.t.Helper()
	var v float64
	_, after, _ := strings.Cut(r.get("/metrics"), "\n"+name+" ")
	if _, err := fmt.Sscan(after, &v); err != nil {
		r.t.Fatalf("read %s: %v", name, err)
	}
	return uint64(v)
}

// drains waits until the agent has drained n more times.
func (r *running) drains(n uint64) {
	r.t.Helper()
	const count = "ebbwatch_agent_drain_seconds_count"
	want := r.metric(count) + n
	for deadline := time.Now().Add(patience); r.metric(count) < want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("the agent does not drain")
		}
	}
}

func (r *running) get(path string) string {
	resp, err := http.Get("http://" + cmp.Or(r.ops, opsAddress) + path)
	if err != nil {
		return err.Error() // not listening yet
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(body)
}

// finish ends the agent and returns what it sent, after it checked that every
// drain proves itself: seen = recorded + overflow + other + skipped for each attach point,
// and the records of the drain add up to what is recorded, but for what
// repeated says.
func (r *running) finish(repeated ebbwatch.Counter) (flows []ebbwatch.Flow, seen map[string]ebbwatch.Counter) {
	r.t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Fatal(err)
		}
	case <-time.After(patience):
		r.t.Fatal("the agent does not end")
	}
	info, err := r.stream.Info(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	var decoder ebbwatch.Decoder
	seen = make(map[string]ebbwatch.Counter)
	var inRecords, recorded ebbwatch.Counter
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		msg, err := r.stream.GetMsg(r.t.Context(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		var b ebbwatch.Batch
		if err := decoder.Decode(msg.Data, &b); err != nil {
			r.t.Fatal(err)
		}
		r.batches++
		if b.Sequence != seq {
			r.t.Errorf("batch %d has sequence %d", seq, b.Sequence)
		}
		if b.IntervalMS > 0 {
			r.sources = append(r.sources, b.Sources...)
		}
		for _, a := range b.Attach {
			sum := a.Recorded
			sum.Add(a.Overflow)
			sum.Add(a.Other)
			sum.Add(a.Skipped)
			if a.Seen != sum {
				r.t.Errorf("batch %d: %+v does not balance", seq, a)
			}
			recorded.Add(a.Recorded)
			r.overflow.Add(a.Overflow)
			c := seen[a.Interface]
			c.Add(a.Seen)
			seen[a.Interface] = c
		}
		for i := range b.Len() {
			f := b.Flow(i)
			flows = append(flows, f)
			inRecords.Add(ebbwatch.Counter{Packets: f.SrcPackets + f.DstPackets, Bytes: f.SrcBytes + f.DstBytes})
		}
	}
	if repeated.Packets == anything {
		repeated = ebbwatch.Counter{Packets: recorded.Packets - inRecords.Packets, Bytes: recorded.Bytes - inRecords.Bytes}
	}
	inRecords.Add(repeated)
	if inRecords != recorded {
		r.t.Errorf("records hold %+v, attach points recorded %+v", inRecords, recorded)
	}
	if recorded.Packets == 0 {
		r.t.Error("nothing was recorded")
	}
	return flows, seen
}

// finishRepeated is finish where the last drain is the only one, so that nobody can
// ask how much of it was repeated: the agent checks that itself.
func (r *running) finishRepeated() (flows []ebbwatch.Flow, seen map[string]ebbwatch.Counter) {
	r.t.Helper()
	return r.finish(ebbwatch.Counter{Packets: anything})
}

// anything stands for repeated packets that nobody could ask for.
const anything = ^uint64(0)

// conversation sums the records between two endpoints ("address:port").
func conversation(t *testing.T, flows []ebbwatch.Flow, proto uint8, src, dst string) ebbwatch.Flow {
	t.Helper()
	var sum ebbwatch.Flow
	n, firsts := 0, 0
	for _, f := range flows {
		if f.Proto != proto || !strings.HasPrefix(netip.AddrPortFrom(f.Src, f.SrcPort).String(), src) || !strings.HasPrefix(netip.AddrPortFrom(f.Dst, f.DstPort).String(), dst) {
			continue
		}
		if n++; n > 1 {
			f.SrcPackets, f.SrcBytes, f.DstPackets, f.DstBytes = f.SrcPackets+sum.SrcPackets, f.SrcBytes+sum.SrcBytes, f.DstPackets+sum.DstPackets, f.DstBytes+sum.DstBytes
			f.SrcFlags |= sum.SrcFlags
			f.DstFlags |= sum.DstFlags
		}
		if f.AgeMS == 0 {
			firsts++
		}
		sum = f
	}
	if firsts != 1 {
		t.Fatalf("%d first records of %s > %s (protocol %d), want 1; all flows:\n%s", firsts, src, dst, proto, list(flows))
	}
	return sum
}

func list(flows []ebbwatch.Flow) string {
	var s strings.Builder
	for _, f := range flows {
		fmt.Fprintf(&s, "%s %v:%d > %v:%d proto %d %v %v age %d final %v packets %d/%d bytes %d/%d\n", f.Interface, f.Src, f.SrcPort, f.Dst, f.DstPort, f.Proto,
			f.ConnState, f.Initiator, f.AgeMS, f.Final, f.SrcPackets, f.DstPackets, f.SrcBytes, f.DstBytes)
	}
	return s.String()
}
