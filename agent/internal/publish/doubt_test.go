package publish_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
)

// wire lies between an agent and its server. It can go silent towards the agent,
// so that what the agent sends arrives and no answer does, and be cut.
type wire struct {
	t      *testing.T
	server string
	ln     net.Listener

	mu     sync.Mutex
	silent bool
	down   bool
	conns  []net.Conn
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, server: server, ln: ln}
	t.Cleanup(func() { ln.Close(); w.cut() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			w.join(c)
		}
	}()
	return w
}

func (w *wire) url() string { return "nats://" + w.ln.Addr().String() }

func (w *wire) join(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := net.Dial("tcp", w.server)
	if err != nil || w.down {
		c.Close()
		return
	}
	w.conns = append(w.conns, c, s)
	go func() { _, _ = io.Copy(s, c); s.Close() }()
	go func() { _, _ = io.Copy(quiet{w, c}, s); c.Close() }()
}

// quiet swallows what is written while the wire is silent.
type quiet struct {
	w *wire
	c net.Conn
}

func (q quiet) Write(b []byte) (int, error) {
	q.w.mu.Lock()
	silent := q.w.silent
	q.w.mu.Unlock()
	if silent {
		return len(b), nil
	}
	return q.c.Write(b)
}

func (w *wire) silence() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = true
}

// cut ends all connections and lets none in until mend.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent, w.down = false, false
}

// resent returns the sequences of the batches that came marked, in the stream's order.
func resent(t *testing.T, stream jetstream.Stream) (ids []string) {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // a collector took it
		}
		if err != nil {
			t.Fatal(err)
		}
		if msg.Header.Get(ebbwatch.ResentHeader) != "" {
			ids = append(ids, msg.Header.Get(nats.MsgIdHdr))
		}
	}
	return ids
}

// An acknowledgement is lost, and the outage lasts longer than the stream's
// duplicate window: publishing again would store the batch twice.
func TestLostAcknowledgementBeyondTheDuplicateWindow(t *testing.T) {
	for _, c := range []struct {
		name     string
		consumed bool // a collector takes the batches before the agent is back
		restart  bool // of the agent, which remembers on disk what was in doubt
		shards   int  // of the stream
	}{
		{"the stream still has the batches", false, false, 1},
		{"the stream still has the batches in a shard", false, false, 6},
		{"the stream still has the batches, and the agent starts again", false, true, 1},
		{"a collector has taken them", true, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startNATS(t, t.TempDir(), 0)
			streamOf(t, s, -1)
			stream := shortWindow(t, s.ClientURL(), c.shards)
			dir := filepath.Join(t.TempDir(), "spool")
			w := newWire(t, s.Addr().String())
			h := startWith(t, w.url(), withSpool(dir, 1<<30))
			h.publish(40)
			eventually(t, "the first are stored", func() bool { return messages(t, stream) == 40 })
			eventually(t, "and acknowledged", func() bool { return h.metric("published_batches_total") == 40 })

			w.silence()
			h.together(7)
			eventually(t, "the next are stored, unknown to the agent", func() bool { return messages(t, stream) == 47 })
			w.cut()
			eventually(t, "they are in the spool", func() bool { return h.metric("spool_batches") == 7 })
			h.publish(20)
			eventually(t, "so are those after them", func() bool { return h.metric("spool_batches") == 27 })
			first, total := h.Boot(), uint64(67)
			if c.consumed {
				if err := stream.Purge(t.Context()); err != nil {
					t.Fatal(err)
				}
				total = 27
			}
			time.Sleep(300 * time.Millisecond) // the window passes
			if c.restart {
				h.finish()
				h = startWith(t, w.url(), withSpool(dir, 1<<30))
			}
			w.mend()
			eventually(t, "everything is stored", func() bool { return messages(t, stream) >= total })
			h.finish()

			got := arrived(t, stream)
			if c.consumed {
				var want []string
				for i := 41; i <= 47; i++ {
					want = append(want, fmt.Sprintf("host-a:%s:%d", first, i))
				}
				if marked := resent(t, stream); !slices.Equal(marked, want) || !slices.Equal(got, idsOf(first, 67)[40:]) {
					t.Errorf("marked %v of %v", marked, got)
				}
				return
			}
			if !slices.Equal(got, idsOf(first, 67)) || len(resent(t, stream)) != 0 {
				t.Errorf("%d arrived: %v; marked %v", len(got), got, resent(t, stream))
			}
			if n := h.metric("found_stored_batches_total"); n != 7 {
				t.Errorf("%d found stored", n)
			}
		})
	}
}

// An agent that may publish and nothing else cannot ask. It must not wait for ever.
func TestAgentThatMayNotAskPublishesAgainAndMarks(t *testing.T) {
	s := startServer(t, &server.Options{Port: server.RANDOM_PORT, StoreDir: t.TempDir(), Users: []*server.User{
		{Username: "admin", Password: "a"},
		{Username: "agent", Password: "b", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"ebbwatch.flows.v1.host-a"}}}},
	}})
	admin := fmt.Sprintf("nats://admin:a@%s", s.Addr())
	createStream(t, admin, -1)
	stream := shortWindow(t, admin, 1)
	w := newWire(t, s.Addr().String())
	h := startWith(t, strings.Replace(w.url(), "//", "//agent:b@", 1), withSpool(filepath.Join(t.TempDir(), "spool"), 1<<30))
	h.publish(1)
	eventually(t, "the first is acknowledged", func() bool { return h.metric("published_batches_total") == 1 })
	w.silence()
	h.together(3)
	eventually(t, "the next are stored, unknown to the agent", func() bool { return messages(t, stream) == 4 })
	w.cut()
	time.Sleep(300 * time.Millisecond)
	w.mend()
	eventually(t, "they are published again", func() bool { return messages(t, stream) == 7 })
	h.publish(1)
	h.finish()
	marked := resent(t, stream) // on a slow host some twice
	slices.Sort(marked)
	if len(slices.Compact(slices.Clone(marked))) != 3 {
		t.Errorf("marked: %v", marked)
	}
}

// shortWindow makes the stream's duplicate window as short as JetStream allows, and
// divides it into so many shards.
func shortWindow(t *testing.T, url string, shards int) jetstream.Stream {
	t.Helper()
	js := jetStream(t, url)
	stream, err := js.Stream(t.Context(), ebbwatch.FlowStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.Duplicates, cfg.AllowDirect = 100*time.Millisecond, true
	if source, destination := ebbwatch.ShardTransform(shards); shards > 1 {
		cfg.SubjectTransform = &jetstream.SubjectTransformConfig{Source: source, Destination: destination}
	}
	if stream, err = js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return stream
}
