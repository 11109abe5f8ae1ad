// Package replay pushes packet captures through the datapath's own programs
// (BPF_PROG_TEST_RUN, with packet time in place of the clock) and makes the
// agent's records of what they count.
package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/capture"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/hostclock"
)

// maxFrame is how many bytes of a frame are pushed: a test run takes one page
// with its overhead. What is beyond them counts, but is not looked at.
const maxFrame = 3328

// Config says how a capture becomes records.
type Config struct {
	// Interval is the capture time that one record covers at most. Intervals
	// begin at multiples of it.
	Interval time.Duration
	// MaxFlows is how many entries one of the datapath's flow maps holds.
	MaxFlows int
	// KeepGoing refuses packets of an unknown link type instead of ending with them.
	KeepGoing bool
}

// Limits of Config.Interval: those of the agent.
const minInterval, maxInterval = 100 * time.Millisecond, 5 * time.Minute

// Validate reports the first value out of range.
func (c *Config) Validate() error {
	if c.Interval < minInterval || c.Interval > maxInterval {
		return fmt.Errorf("--interval: %v is not within %v to %v", c.Interval, minInterval, maxInterval)
	}
	return nil
}

// Datapath is what packets are pushed through: a *flowbpf.Datapath with Config.Replay.
type Datapath interface {
	Run(*flowbpf.TestRun) error
	Drain(visit func([]flowbpf.Entry)) ([]flowbpf.Totals, error)
	// Entries returns how many entries the fuller one of the flow maps holds.
	Entries() (int, error)
}

// Annotator adds to records what conversations say: a *annotate.Annotator.
type Annotator interface {
	// Collect takes what packets said out of the kernel's buffer.
	Collect()
	Annotate(*conn.Record)
	// End forgets what was told.
	End(emit func(*ebbwatch.Flow))
}

// DatapathConfig is how a datapath is loaded for a Replay: as the agent's, with
// maxFlows entries in a flow map, and without what belongs to a host's live
// traffic: sockets and early warnings.
func DatapathConfig(maxFlows uint32) flowbpf.Config {
	cfg := flowbpf.DefaultConfig()
	cfg.MaxFlows, cfg.MaxInterfaces, cfg.MaxSources, cfg.Replay = maxFlows, 1, 1, true
	cfg.Owner, cfg.NoFeatures = false, true
	return cfg
}

// collectEvery is after how many frames the annotator collects: so many hints
// of the largest size, a page and a little, fit into the default buffer.
const collectEvery = 512

// Sink takes the records, in order of their start within an interval. A record
// is valid until Record returns.
type Sink interface {
	Record(*ebbwatch.Flow) error
}

// Replay is one stream of packets, from one or several captures. It is not safe
// for concurrent use.
type Replay struct {
	cfg    Config
	parts  Parts
	table  *conn.Table
	totals Totals

	framer  framer
	run     flowbpf.TestRun
	begun   bool
	startNS int64 // of the interval at hand
	lastNS  int64 // the latest time in it
	pushed  int   // frames since the last drain
	room    int   // frames that can be pushed before a map could be full

	name     string // of the file at hand
	entries  []flowbpf.Entry
	order    []int32
	recorded Count // of the drain at hand, by its records
	sinkErr  error
}

// Parts are what a Replay works with.
type Parts struct {
	Conversations conn.Config
	Datapath      Datapath
	Annotator     Annotator // may be nil
	Sink          Sink
}

// New returns a Replay of which nothing has happened yet.
func New(cfg Config, parts Parts) (*Replay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := parts.Conversations.Validate(); err != nil {
		return nil, err
	}
	r := &Replay{cfg: cfg, parts: parts, room: cfg.MaxFlows, totals: newTotals()}
	conversations := parts.Conversations
	conversations.EverySighting = true
	r.table = conn.NewTable(conversations, file{r})
	return r, nil
}

// File replays a capture. Records name it as their interface. Captures that are
// replayed one after the other are one stream: a conversation goes on in the
// next file. An error says which packet and why (see capture.Error); what came
// before it is part of the stream. progress, if not nil, is called every few
// thousand packets with the bytes that were read.
func (r *Replay) File(ctx context.Context, name string, src io.Reader, progress func(bytes int64)) error {
	c, err := capture.NewReader(src)
	if err != nil {
		return err
	}
	if r.name != name && r.pushed > 0 {
		if err := r.drain(r.lastNS); err != nil {
			return err
		}
	}
	r.name = name
	for n := 0; ; n++ {
		if n%4096 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if progress != nil {
				progress(c.Offset())
			}
		}
		p, err := c.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.packet(p); err != nil {
			return &capture.Error{Packet: p.Number, Offset: p.Offset, Err: err}
		}
	}
}

// Finish makes the records of the last interval and returns the totals of the
// whole stream. It fails if they do not add up.
func (r *Replay) Finish() (*Totals, error) {
	err := r.drain(r.lastNS)
	r.totals.Evicted = r.table.Stats().Evicted
	return &r.totals, errors.Join(err, r.totals.check())
}

// packet replays one packet.
func (r *Replay) packet(p *capture.Packet) error {
	if err := r.advance(p.TimeNS); err != nil {
		return err
	}
	p.Length -= min(p.Length, pseudo(p.Link))
	r.totals.see(p)
	frame, err := r.framer.ethernet(p.Link, p.Data)
	if unknown := (*linkError)(nil); errors.As(err, &unknown) {
		r.totals.refuse(reasonLink, p.Length)
		if r.cfg.KeepGoing {
			return nil
		}
	}
	if err != nil {
		return err
	}
	return r.push(frame, p)
}

// push runs the ingress program: a capture has no direction.
func (r *Replay) push(frame []byte, p *capture.Packet) error {
	r.run = flowbpf.TestRun{Frame: frame, TimeNS: p.TimeNS, Length: p.Length}
	if len(frame) < etherHeaderSize {
		r.totals.refuse(reasonCut, p.Length)
		return nil
	}
	if err := r.parts.Datapath.Run(&r.run); errors.Is(err, unix.EINVAL) && insideHeader(frame) {
		r.totals.refuse(reasonCut, p.Length)
		return nil
	} else if err != nil {
		return err
	}
	if r.pushed++; r.pushed%collectEvery == 0 && r.parts.Annotator != nil {
		r.parts.Annotator.Collect()
	}
	if r.pushed < r.room {
		return nil
	}
	return r.makeRoom()
}

// insideHeader reports whether a frame ends inside its IP header. Linux refuses
// a test run of such a frame since 6.18; before, the program does.
func insideHeader(frame []byte) bool { return len(frame) < etherHeaderSize+40 }

// makeRoom drains before the interval ends if a flow map could overflow soon. A
// frame makes one entry at most, so the maps need not be counted often.
func (r *Replay) makeRoom() error {
	n, err := r.parts.Datapath.Entries()
	if err != nil {
		return err
	}
	if free := r.cfg.MaxFlows - n; free > r.cfg.MaxFlows/8 {
		r.room = r.pushed + free
		return nil
	}
	return r.drain(r.lastNS)
}

// advance moves the capture's time to ns, and ends the intervals before. Time
// that falls back by more than an interval begins a new one.
func (r *Replay) advance(ns int64) error {
	interval := int64(r.cfg.Interval)
	if !r.begun || ns < r.startNS-interval {
		if err := r.drain(r.lastNS); err != nil {
			return err
		}
		r.begun, r.startNS, r.lastNS = true, ns-ns%interval, ns
	}
	for ns >= r.startNS+interval {
		step := interval
		if r.pushed == 0 {
			if step = r.idle(ns); step == 0 {
				break
			}
		}
		if err := r.drain(r.startNS + step); err != nil {
			return err
		}
		r.startNS += step
	}
	r.lastNS = max(r.lastNS, ns)
	return nil
}

// idle moves the capture's time on, towards ns, to the step in which the next
// conversation is to be forgotten: to the second, however short the interval. It
// returns the length of that step, 0 if ns comes first. However far the time of a
// hostile capture jumps, each step forgets a conversation.
func (r *Replay) idle(ns int64) int64 {
	interval := int64(r.cfg.Interval)
	next, ok := r.table.NextExpiry()
	if !ok || next > ns {
		r.startNS = ns - ns%interval
		return 0
	}
	step := interval * max(1, int64(time.Second)/interval)
	r.startNS += max(0, (next-r.startNS-1)/step) * step
	return min(step, (ns-r.startNS)/interval*interval)
}

// drain makes records of what was pushed since the last drain, as seen at
// capture time ns, and forgets idle conversations.
func (r *Replay) drain(ns int64) error {
	clock := hostclock.Reading{Wall: time.Unix(0, ns).UTC(), MonoNS: ns}
	r.table.Begin(clock, r.startNS, false)
	if r.pushed > 0 {
		if err := r.collect(); err != nil {
			return err
		}
	}
	r.pushed, r.room = 0, r.cfg.MaxFlows
	r.table.Expire(r.emit)
	return r.sinkErr
}

// collect empties the datapath.
func (r *Replay) collect() error {
	r.entries, r.order, r.recorded = r.entries[:0], r.order[:0], Count{}
	totals, err := r.parts.Datapath.Drain(func(group []flowbpf.Entry) {
		for i := range group {
			r.order = append(r.order, int32(len(r.entries)))
			r.entries = append(r.entries, group[i])
		}
	})
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	if r.parts.Annotator != nil {
		r.parts.Annotator.Collect()
	}
	slices.SortFunc(r.order, func(a, b int32) int { return compare(&r.entries[a], &r.entries[b]) })
	for _, i := range r.order {
		r.table.Observe(r.entries[i:i+1], r.annotate)
	}
	if r.parts.Annotator != nil {
		r.parts.Annotator.End(r.emit)
	}
	return r.totals.account(totals, r.recorded)
}

// compare orders entries by their first packet, so that the same capture gives
// the same output.
func compare(a, b *flowbpf.Entry) int {
	return cmp.Or(cmp.Compare(a.FirstNS, b.FirstNS), a.A.Compare(b.A), a.B.Compare(b.B), cmp.Compare(a.APort, b.APort),
		cmp.Compare(a.BPort, b.BPort), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.VLAN, b.VLAN), cmp.Compare(a.InnerVLAN, b.InnerVLAN),
		cmp.Compare(a.Tunnel, b.Tunnel), cmp.Compare(a.TunnelID, b.TunnelID))
}

// file is the only interface of a replay: the capture at hand.
type file struct{ r *Replay }

func (f file) Name(flowbpf.Place) string       { return f.r.name }
func (f file) NetNS(flowbpf.Place) string      { return "" }
func (f file) Related(_, _ flowbpf.Place) bool { return false }

func (r *Replay) annotate(c *conn.Record) {
	if r.parts.Annotator != nil {
		r.parts.Annotator.Annotate(c)
	}
	r.emit(&c.Flow)
}

func (r *Replay) emit(f *ebbwatch.Flow) {
	r.totals.record(f)
	r.recorded.add(f.SrcPackets+f.DstPackets, f.SrcBytes+f.DstBytes)
	if r.sinkErr == nil {
		r.sinkErr = r.parts.Sink.Record(f)
	}
}
