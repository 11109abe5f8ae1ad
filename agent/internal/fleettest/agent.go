package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/publish"
	"github.com/ebbwatch/ebbwatch/agent/internal/spool"
	"github.com/ebbwatch/ebbwatch/internal/natsconn"
)

// agent is one agent over several runs.
type agent struct {
	*options
	number int
	name   string
	dir    string
	log    *slog.Logger
	rnd    *rand.Rand
	flow   uint64 // number of the last flow record: it makes every one of them different
	past   []copyOf
}

// copyOf is a message to be published again.
type copyOf struct {
	publish.Message
	due time.Time
}

// newAgent returns an agent that has made so many flow records before.
func newAgent(number int, made uint64, o *options, dir string, log *slog.Logger) *agent {
	return &agent{
		options: o, number: number, name: fmt.Sprintf("chaos-%d", number), dir: dir, log: log, flow: made,
		rnd: rand.New(rand.NewPCG(o.seed+made, uint64(number))),
	}
}

// live runs the agent again and again until ctx ends, and then until its spool
// is empty.
func (a *agent) live(ctx context.Context) error {
	for ctx.Err() == nil {
		life := a.restart/2 + time.Duration(a.rnd.Int64N(int64(a.restart)))
		if err := a.run(ctx, life, a.emit); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(a.deliver); ; {
		waiting, err := a.waiting()
		if err != nil || waiting == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: after %s %d batches are still not delivered", a.name, a.deliver, waiting)
		}
		if err := a.run(context.WithoutCancel(ctx), time.Second, a.idle); err != nil {
			return err
		}
	}
}

// waiting returns how many batches are in the spool, between two runs.
func (a *agent) waiting() (int, error) {
	s := spool.New(a.spool(), a.log)
	if err := s.Open(); err != nil {
		return 0, err
	}
	return s.Len(), s.Close()
}

func (a *agent) spool() spool.Config { return spool.Config{Dir: a.dir, MaxBytes: 256 << 20} }

// run is one run of the agent: a connection, a publisher, and what it does for a
// while or until ctx ends.
func (a *agent) run(ctx context.Context, life time.Duration, do func(context.Context, *publish.Publisher, *nats.Conn) error) error {
	conn, err := natsconn.Connect(a.name, natsconn.Config{URL: a.nats}, a.log, nats.ReconnectWait(100*time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 0))
	if err != nil {
		return err
	}
	defer conn.Close()
	metrics := prometheus.NewRegistry()
	p, err := publish.New(publish.Config{
		Agent: a.name, Version: "chaos", QueueMaxBytes: 64 << 20, Spool: a.spool(), FlushTimeout: time.Second,
	}, conn, metrics, a.log)
	if err != nil {
		return err
	}
	deliver, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	delivered := make(chan error, 1)
	go func() { delivered <- p.Run(deliver) }()
	ctx, end := context.WithTimeout(ctx, life)
	defer end()
	err = do(ctx, p, conn)
	stop() // after the last batch
	if err := errors.Join(err, <-delivered); err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	lost := make(map[string]uint64)
	for _, l := range p.Losses() {
		lost[l.Name] = l.Count
	}
	families, err := metrics.Gather()
	if err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	for _, f := range families {
		if f.GetName() == "ebbwatch_agent_shutdown_lost_batches_total" {
			lost[f.GetName()] = uint64(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	maps.DeleteFunc(lost, func(_ string, count uint64) bool { return count == 0 })
	if len(lost) == 0 {
		return nil
	}
	return a.journal.note(Entry{Agent: a.number, Name: a.name, Boot: p.Boot(), Lost: lost})
}

func (a *agent) idle(ctx context.Context, _ *publish.Publisher, _ *nats.Conn) error {
	<-ctx.Done()
	return nil
}

// emit makes batches, and copies of earlier ones.
func (a *agent) emit(ctx context.Context, p *publish.Publisher, conn *nats.Conn) error {
	tick := time.NewTicker(a.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var b ebbwatch.Batch
		b.Sequence, b.Time, b.IntervalMS = p.NextSequence(), time.Now(), uint32(a.interval.Milliseconds())
		made := Entry{Agent: a.number, Name: a.name, Boot: p.Boot(), Sequence: b.Sequence, First: a.flow + 1, Made: b.Time}
		for range 1 + a.rnd.IntN(a.flows) {
			f := a.next()
			made.Flows++
			made.Bytes += f.SrcBytes + f.DstBytes
			b.Append(&f)
		}
		m, err := p.Encode(&b)
		if err != nil {
			return err
		}
		if err := a.journal.note(made); err != nil {
			return err
		}
		p.Enqueue(m)
		if a.rnd.Float64() < a.copies {
			a.past = append(a.past, copyOf{m, time.Now().Add(a.copyAfter/2 + time.Duration(a.rnd.Int64N(int64(4*a.copyAfter))))})
		}
		if err := a.repeat(conn); err != nil {
			return err
		}
	}
}

// repeat publishes what is due once more, one in two with the header of an agent
// that knows. Nobody waits for an answer: what gets lost is a copy.
func (a *agent) repeat(conn *nats.Conn) error {
	kept := a.past[:0]
	for _, c := range a.past {
		if time.Now().Before(c.due) {
			kept = append(kept, c)
			continue
		}
		msg := &nats.Msg{Subject: ebbwatch.FlowSubject(a.name), Data: c.Data, Header: nats.Header{nats.MsgIdHdr: []string{c.ID}}}
		if a.rnd.IntN(2) == 0 {
			msg.Header.Set(ebbwatch.ResentHeader, "1")
		}
		if conn.PublishMsg(msg) != nil {
			continue
		}
		if err := a.journal.note(Entry{Agent: a.number, Name: a.name, Copy: true}); err != nil {
			return err
		}
	}
	a.past = kept
	return nil
}

// next returns a flow record that no other agent and no other call returns.
func (a *agent) next() ebbwatch.Flow {
	a.flow++
	src := [16]byte{0: 0xfd}
	binary.BigEndian.PutUint16(src[6:], uint16(a.number))
	binary.BigEndian.PutUint64(src[8:], a.flow)
	start := time.Now().Add(-time.Duration(a.rnd.Int64N(int64(3 * time.Minute))))
	owner := ebbwatch.Owner{PID: 1 + uint32(a.rnd.IntN(9)), Process: []string{"curl", "nginx"}[a.rnd.IntN(2)]}
	return ebbwatch.Flow{
		Start: start, End: start.Add(time.Second), Src: netip.AddrFrom16(src), Dst: netip.AddrFrom4([4]byte{192, 0, 2, byte(a.rnd.IntN(4))}),
		SrcPort: uint16(a.rnd.IntN(1 << 16)), DstPort: uint16(80 + a.rnd.IntN(3)), Proto: ebbwatch.ProtoTCP, Initiator: ebbwatch.InitiatorSYN,
		SrcPackets: uint64(1 + a.rnd.IntN(100)), SrcBytes: uint64(60 + a.rnd.IntN(100_000)), DstPackets: uint64(a.rnd.IntN(100)), DstBytes: uint64(a.rnd.IntN(100_000)),
		ConnState: ebbwatch.StateSF, Sampling: 1, SrcOwner: owner, DstOwner: owner, SrcHealth: ebbwatch.Health{Retransmits: uint32(a.rnd.IntN(3))},
		RTTUS: uint32(a.rnd.IntN(9000)),
	}
}
