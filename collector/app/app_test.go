package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

// bed is a collector's surroundings: real servers and an agent of the test.
type bed struct {
	t        *testing.T
	ch       *chtest.Server
	nats     *natstest.Server
	js       jetstream.JetStream
	cfg      Config
	db       string
	encoder  ebbwatch.Encoder
	sent     sums
	flows    *flowgen.Fleet
	rows     map[string]int // sent to the tables beside flows
	batch    ebbwatch.Batch
	sequence uint64
}

// sums are what is sent, and what a table holds.
type sums struct{ records, srcPackets, srcBytes, dstPackets, dstBytes, connections uint64 }

func newBed(t *testing.T, ch *chtest.Server) *bed {
	t.Helper()
	return newBedIn(t, ch, ch.NewDatabase(t))
}

// newBedIn is newBed in a database that exists, or that the collector creates.
func newBedIn(t *testing.T, ch *chtest.Server, database string) *bed {
	t.Helper()
	b := &bed{t: t, ch: ch, nats: natstest.Start(t), db: database}
	b.js = b.nats.JetStream(t)
	b.cfg = DefaultConfig()
	b.cfg.Listen = ""
	b.cfg.NATS.URL = b.nats.URL
	b.cfg.ClickHouse.Address, b.cfg.ClickHouse.Database = ch.Addr, b.db
	b.cfg.ClickHouse.User, b.cfg.ClickHouse.Password = chtest.Collector, config.Secret(ch.CollectorPassword)
	b.cfg.ClickHouse.InsertUser, b.cfg.ClickHouse.InsertPassword = chtest.Writer, config.Secret(ch.WriterPassword)
	b.cfg.Streams.FlowMaxBytes = 64 << 20
	b.cfg.Streams.AckWait = 2 * time.Second
	b.cfg.Streams.Standby = time.Second
	b.cfg.Streams.DeadLetterMaxBytes = 16 << 20
	b.cfg.Ingest.BlockAge = 50 * time.Millisecond
	b.cfg.Insert.RetryMax = time.Second
	b.rows = make(map[string]int)
	b.flows = flowgen.New(1, 7, time.Now().Add(-time.Minute), 5*time.Second)
	return b
}

func (b *bed) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(b.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// run starts a collector and returns a function that stops it and waits.
func (b *bed) run() (stop func()) {
	b.t.Helper()
	a, err := New(b.cfg, b.log())
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				b.t.Errorf("collector ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			b.t.Fatal("collector does not stop")
		}
	}
	b.t.Cleanup(stop)
	return stop
}

// publish sends a message as an agent would, and waits for the stream.
func (b *bed) publish(subject string, message []byte, id string) {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Second)
		_, err := b.js.Publish(ctx, subject, message, jetstream.WithMsgID(id))
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("publish: %v", err)
		}
		time.Sleep(50 * time.Millisecond) // the collector has not created the stream yet
	}
}

// send publishes n generated batches of flows, and after each one of warnings.
func (b *bed) send(n, flows int) {
	b.t.Helper()
	for range n {
		b.flows.Next(&b.batch, flows)
		message := b.encode(&b.batch)
		for i := range b.batch.Start {
			f := b.batch.Flow(i)
			b.sent.records++
			b.sent.srcPackets += f.SrcPackets
			b.sent.srcBytes += f.SrcBytes
			b.sent.dstPackets += f.DstPackets
			b.sent.dstBytes += f.DstBytes
			if f.AgeMS == 0 {
				b.sent.connections++
			}
		}
		b.note()
		b.publish(ebbwatch.FlowSubject(b.batch.Agent), message, b.batch.MessageID())
		b.flows.Warn(&b.batch)
		b.note()
		b.publish(ebbwatch.FlowSubject(b.batch.Agent), b.encode(&b.batch), b.batch.MessageID())
	}
}

// note counts the rows that the batch has in the tables beside flows.
func (b *bed) note() {
	b.rows["coverage"] += max(1, len(b.batch.Attach))
	b.rows["features"] += len(b.batch.Features)
	b.rows["sources"] += len(b.batch.Sources)
}

func (b *bed) encode(batch *ebbwatch.Batch) []byte {
	b.t.Helper()
	message, err := b.encoder.Encode(nil, batch)
	if err != nil {
		b.t.Fatal(err)
	}
	return message
}

func (b *bed) sums(table, records, connections string) (sums, error) {
	out, err := b.ch.QueryAs(chtest.Collector, fmt.Sprintf(
		"SELECT %s, sum(src_packets), sum(src_bytes), sum(dst_packets), sum(dst_bytes), %s FROM %s.%s", records, connections, b.db, table))
	if err != nil {
		return sums{}, err
	}
	var v [6]uint64
	for i, field := range strings.Fields(out) {
		if v[i], err = strconv.ParseUint(field, 10, 64); err != nil {
			return sums{}, err
		}
	}
	return sums{v[0], v[1], v[2], v[3], v[4], v[5]}, nil
}

// wantExact waits until everything that was sent is stored, gives doubles time
// to appear, and then holds both tables against what was sent.
func (b *bed) wantExact() {
	b.t.Helper()
	eventually(b.t, 40*time.Second, "everything sent is stored", func() error {
		raw, err := b.sums("flows", "count()", "countIf(age_ms = 0)")
		if err == nil && raw.records < b.sent.records {
			err = fmt.Errorf("%d of %d flows are stored", raw.records, b.sent.records)
		}
		return err
	})
	eventually(b.t, 20*time.Second, "the stream is empty", func() error {
		stream, err := b.js.Stream(b.t.Context(), ebbwatch.FlowStream)
		if err != nil {
			return err
		}
		if n := stream.CachedInfo().State.Msgs; n > 0 {
			return fmt.Errorf("%d messages are left", n)
		}
		return nil
	})
	for _, table := range []struct{ name, records, connections string }{
		{"flows", "count()", "countIf(age_ms = 0)"}, {"flows_1m", "sum(records)", "sum(connections)"},
	} {
		got, err := b.sums(table.name, table.records, table.connections)
		if err != nil {
			b.t.Fatal(err)
		}
		if got != b.sent {
			b.t.Errorf("%s holds %+v, sent were %+v", table.name, got, b.sent)
		}
	}
	for table, want := range b.rows {
		if got := b.ch.Query(b.t, "SELECT count() FROM "+b.db+"."+table); got != strconv.Itoa(want) {
			b.t.Errorf("%s holds %s rows, sent were %d", table, got, want)
		}
	}
}

func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", limit, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// cable is a TCP connection to a server that a test can cut.
type cable struct {
	listener net.Listener
	target   string
	cut      chan struct{}
}

func (b *bed) cable(target string) *cable {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	c := &cable{target: target, cut: make(chan struct{}), listener: listener}
	go c.serve(listener, c.cut)
	b.t.Cleanup(c.Cut)
	return c
}

func (c *cable) addr() string { return c.listener.Addr().String() }

func (c *cable) serve(listener net.Listener, cut chan struct{}) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", c.target)
		if err != nil {
			near.Close()
			continue
		}
		end := func() { near.Close(); far.Close() }
		go func() { defer end(); _, _ = io.Copy(far, near) }()
		go func() { defer end(); _, _ = io.Copy(near, far) }()
		go func() { <-cut; end() }()
	}
}

// Cut breaks every connection and refuses new ones.
func (c *cable) Cut() {
	select {
	case <-c.cut:
	default:
		close(c.cut)
		c.listener.Close()
	}
}

// Mend accepts connections again.
func (c *cable) Mend(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", c.addr())
	if err != nil {
		t.Fatal(err)
	}
	c.listener, c.cut = listener, make(chan struct{})
	go c.serve(listener, c.cut)
}
