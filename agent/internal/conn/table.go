// Package conn remembers the conversations that a host takes part in, beyond
// the drain interval, so that each record can say who opened its conversation,
// how old it is, and what state it is in.
package conn

import (
	"errors"
	"math"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/hostclock"
)

// Config bounds the table.
type Config struct {
	// MaxConversations is how many conversations are remembered, at about 120
	// bytes each. A new one beyond that takes the place of an old, idle one,
	// which is then forgotten: its next packets count as a new conversation.
	MaxConversations int `yaml:"max_conversations"`
	// IdleTCP is how long an established TCP connection, or a midstream one with
	// more than one record, may be silent before it is forgotten.
	IdleTCP time.Duration `yaml:"idle_tcp"`
	// IdleOther is the same for everything else: UDP, ICMP, attempts without an
	// answer, half-closed connections.
	IdleOther time.Duration `yaml:"idle_other"`
	// EverySighting records what every place saw, also of packets that another one
	// recorded: a capture is to be accounted for as it is.
	EverySighting bool `yaml:"-"`
}

// DefaultConfig returns the bounds of a host with up to 100,000 conversations at
// a time. Connections that are silent for a quarter of an hour are mostly dead;
// a minute is what Zeek gives UDP.
func DefaultConfig() Config {
	return Config{MaxConversations: 131072, IdleTCP: 15 * time.Minute, IdleOther: time.Minute}
}

// Validate reports the first value out of range, by its yaml key.
func (c *Config) Validate() error {
	switch {
	case c.MaxConversations < 1 || c.MaxConversations > 1<<24:
		return errors.New("max_conversations: must be 1 to 16777216")
	case c.IdleTCP < time.Second:
		return errors.New("idle_tcp: must be at least 1s")
	case c.IdleOther < time.Second:
		return errors.New("idle_other: must be at least 1s")
	}
	return nil
}

// linger is how long an ended conversation still owns its stragglers, the last
// ACK mostly. A SYN begins a new one at once.
const linger = 10 * time.Second

// Stats counts what a table did since it was made.
type Stats struct {
	Conversations int    // remembered now
	Evicted       uint64 // forgotten early, for room
	Expired       uint64 // forgotten because idle
	// Repeated is what was seen of packets that another interface of this host
	// had accounted: not recorded again.
	Repeated ebbwatch.Counter
}

// Table holds conversations. It is not safe for concurrent use.
//
// # One packet, one record
//
// A packet can pass several interfaces of a host: the two that forward it, the
// ports of a bridge and the bridge, the ends of a veth pair, a device of a tunnel
// and the one below it. All of them see it, and one of them records it: the one
// that saw the conversation first, and from then on the same. Another one sees
// the same packets if they go the other way there (in instead of out), if the two
// interfaces are stacked on each other, or if it counted exactly the same
// (Stats.Repeated counts what was not recorded again). Otherwise it has other
// packets of the conversation, which takes several paths, and makes a record of
// its own. If the recording place has gone silent for a whole interval, or its
// flow map was full and had nothing of the conversation, another one takes over:
// at that moment, packets that were between the two can be recorded twice. So are
// broadcasts and link-local packets that a bridge passes on: they are accounted
// link by link. Two conversations between the same endpoints in separate networks
// of one forwarding host are taken for one, unless they are in different tunnels.
type Table struct {
	cfg   Config
	slots slots
	hand  uint32 // where the search for something to evict goes on
	stats Stats

	clock   hostclock.Reading
	startNS int64 // when the interval began
	drain   uint32
	full    bool

	interfaces Interfaces
	seen       []sighting // of the group at hand
	rec        Record     // the last one made
}

// NewTable returns an empty table.
func NewTable(cfg Config, interfaces Interfaces) *Table {
	return &Table{cfg: cfg, interfaces: interfaces, slots: newSlots(cfg.MaxConversations)}
}

// Stats returns the counters.
func (t *Table) Stats() Stats {
	t.stats.Conversations = t.slots.used
	return t.stats
}

// Begin starts the drain of the interval that began at startNS. clock converts
// its times; full says that a flow map has refused entries during it.
func (t *Table) Begin(clock hostclock.Reading, startNS int64, full bool) {
	t.clock, t.startNS, t.full = clock, startNS, full
	t.drain++
}

// Record is what Observe makes of an entry.
type Record struct {
	ebbwatch.Flow
	Key flowbpf.Key // of the conversation, in the order of the datapath
	Src uint8       // the side of Key that is Flow.Src
}

// Observe merges the entries of a drain that have the same endpoints, and calls
// emit with each record that they make: mostly one, none if they repeat what was
// recorded before. The record is valid until emit returns. It changes the group.
func (t *Table) Observe(group []flowbpf.Entry, emit func(*Record)) {
	seen := t.sort(group)
	for i := range seen {
		e := seen[i].e
		if seen[i].repeats >= 0 {
			t.repeated(e)
			continue
		}
		k := keyOf(e)
		names := ""
		if len(seen) > 1 {
			names = t.complete(i)
		}
		if r := t.observe(&k, e); r != nil {
			r.Interfaces = names
			emit(r)
		}
	}
}

// repeated counts packets that are recorded elsewhere.
func (t *Table) repeated(e *flowbpf.Entry) {
	for i := range e.Side {
		t.stats.Repeated.Add(ebbwatch.Counter(e.Side[i].Counters))
	}
}

// observe makes the record of one entry, nil if its packets were recorded in
// the interval before, at another place.
func (t *Table) observe(k *key, e *flowbpf.Entry) *Record {
	c := t.slots.find(k)
	if c != nil && c.drain != t.drain && c.restarts(e) {
		t.slots.remove(c)
		c = nil
	}
	if c == nil && k.tunnel != 0 && !t.cfg.EverySighting {
		outside := *k
		outside.tunnel, outside.tunnelID = 0, 0
		if o := t.slots.find(&outside); o != nil && t.recent(o) {
			t.repeated(e)
			return nil
		}
	}
	known := c != nil
	if !known {
		c = t.add(k, e)
	}
	if !known || c.seeded && c.fresh { // no place has recorded it yet
		c.dirA, c.place, c.vlan = towards(e), e.Place, e.VLAN
	}
	if c.place != e.Place || c.vlan != e.VLAN {
		same := c.dirA != towards(e) || t.interfaces.Related(c.place, e.Place)
		if same && c.drain != t.drain && t.recent(c) && !t.cfg.EverySighting {
			t.repeated(e)
			return nil
		}
		c.dirA = towards(e)
	}
	t.rec = Record{Key: e.Key()}
	t.record(c, e, known, &t.rec.Flow)
	t.rec.Src = c.from
	return &t.rec
}

// recent reports whether c's packets of this interval can be expected to be
// recorded where those before were.
func (t *Table) recent(c *conversation) bool {
	return c.drain == t.drain || !t.full && c.drain+1 == t.drain
}

// restarts reports whether e opens a new conversation between known endpoints:
// a SYN after the end, or a handshake where only midstream traffic was known.
func (c *conversation) restarts(e *flowbpf.Entry) bool {
	if c.key.proto != ebbwatch.ProtoTCP {
		return false
	}
	if c.over {
		return e.Side[0].SYNNS != 0 || e.Side[1].SYNNS != 0
	}
	_, handshake := initiator(e)
	return handshake && (c.initiator == ebbwatch.InitiatorUnknown || c.initiator == ebbwatch.InitiatorSocket)
}

// record moves c on by e and fills f.
func (t *Table) record(c *conversation, e *flowbpf.Entry, known bool, f *ebbwatch.Flow) {
	var age uint32
	if known && !c.fresh {
		c.repeated = true
		age = t.age(c)
	}
	c.fresh = false
	reopened := int64(0)
	if syn, end := max(e.Side[0].SYNNS, e.Side[1].SYNNS), ended(e); end != 0 && syn > end {
		reopened = syn
	}
	since := int64(0)
	if !known {
		since = reopened // the end before that SYN was another conversation's
	}
	for i := range c.seen {
		c.seen[i] = observed(c.seen[i], &e.Side[i], since)
	}
	c.firstNS, c.lastNS = min(c.firstNS, e.FirstNS), max(c.lastNS, e.LastNS)
	c.place, c.vlan, c.drain = e.Place, e.VLAN, t.drain
	c.state = State(e.Proto, c.seen[c.src], c.seen[1-c.src])
	c.over = over(e.Proto, c.state)

	src, dst, n := &e.Side[c.src], &e.Side[1-c.src], uint64(max(1, e.Sampling))
	*f = ebbwatch.Flow{
		Start: t.clock.Time(e.FirstNS), End: t.clock.Time(e.LastNS),
		Src: e.A, SrcPort: e.APort, Dst: e.B, DstPort: e.BPort,
		Proto: e.Proto, Initiator: c.initiator, Interface: t.interfaces.Name(e.Place), NetNS: t.interfaces.NetNS(e.Place), VLAN: e.VLAN,
		Tunnel: ebbwatch.Tunnel(e.Tunnel), TunnelID: e.TunnelID,
		SrcPackets: src.Packets * n, SrcBytes: src.Bytes * n, DstPackets: dst.Packets * n, DstBytes: dst.Bytes * n,
		SrcFlags: ebbwatch.TCPFlags(src.Flags), DstFlags: ebbwatch.TCPFlags(dst.Flags),
		ConnState: c.state,
		AgeMS:     age, Final: c.over, Sampling: uint32(n),
		SrcHealth: health(src, n), DstHealth: health(dst, n), HandshakeUS: c.handshake(e), RTTUS: roundTrip(src, dst),
		SrcOwner: ebbwatch.Owner{PID: src.PID}, DstOwner: ebbwatch.Owner{PID: dst.PID},
	}
	f.ICMPType, f.ICMPCode = c.icmp(e)
	if c.src == 1 {
		f.Src, f.SrcPort, f.Dst, f.DstPort = e.B, e.BPort, e.A, e.APort
	}
	c.from = c.src
	if known && c.over && reopened != 0 {
		t.reopen(c, e, reopened)
	}
}

// reopen makes of a conversation that ended during the interval the one that
// the same endpoints opened at synNS, still during it. The packets of both
// stand in the record of the one that ended; the next record is the new one's first.
func (t *Table) reopen(c *conversation, e *flowbpf.Entry, synNS int64) {
	n := conversation{
		key: c.key, firstNS: synNS, lastNS: c.lastNS, place: c.place, vlan: c.vlan, drain: c.drain, dirA: c.dirA, from: c.from,
		initiator: ebbwatch.InitiatorSYN, used: true, fresh: true,
	}
	if e.Side[1].SYNNS == synNS {
		n.src = 1
	}
	for i := range n.seen {
		n.seen[i] = observed(0, &e.Side[i], synNS)
	}
	n.state = State(n.key.proto, n.seen[n.src], n.seen[1-n.src])
	n.next = c.next
	*c = n
}

// age returns how long c had been known when the interval began, in
// milliseconds, at least 1: 0 is for first records.
func (t *Table) age(c *conversation) uint32 {
	return uint32(min(max(1, (t.startNS-c.firstNS)/1e6), 1<<32-1))
}

// add makes room for a conversation and decides who is its source.
func (t *Table) add(k *key, e *flowbpf.Entry) *conversation {
	if t.slots.full() {
		t.slots.remove(t.oldest())
		t.stats.Evicted++
	}
	c := t.slots.add(k)
	c.firstNS, c.lastNS, c.src, c.initiator = e.FirstNS, e.LastNS, e.FirstSide, ebbwatch.InitiatorFirst
	switch k.proto {
	case ebbwatch.ProtoTCP:
		c.initiator = ebbwatch.InitiatorUnknown
		if side, ok := initiator(e); ok {
			c.src, c.initiator = side, ebbwatch.InitiatorSYN
		}
	case ebbwatch.ProtoICMP, ebbwatch.ProtoICMPv6:
		c.src = asked(e).side
	}
	return c
}

// oldest returns an ended conversation, or else the one that was idle the
// longest, among the next 64 of a table without unused slots.
func (t *Table) oldest() *conversation {
	var best *conversation
	for range min(64, t.slots.filled) {
		t.hand = (t.hand + 1) % uint32(t.slots.filled)
		c := t.slots.at(t.hand)
		if c.over {
			return c
		}
		if best == nil || c.lastNS < best.lastNS {
			best = c
		}
	}
	return best
}

// Expire forgets what has been idle for too long. It calls emit with a final
// record, without packets and at the time of the last one, for each of them
// that was a TCP connection or has more than one record already: what a single
// record tells all about, an unanswered probe mostly, does not deserve a second
// row. The record is valid until emit returns.
func (t *Table) Expire(emit func(*ebbwatch.Flow)) {
	var f ebbwatch.Flow
	for c := range t.slots.all {
		if !c.used || t.clock.MonoNS-c.lastNS < int64(t.patience(c)) {
			continue
		}
		if !c.over {
			t.stats.Expired++
			if (c.repeated || c.state == ebbwatch.StateS1) && !(c.seeded && c.fresh) {
				t.final(c, &f)
				emit(&f)
			}
		}
		t.slots.remove(c)
	}
}

// NextExpiry returns the monotonic time from which on Expire forgets the next
// conversation, if no packet comes before; false without conversations.
func (t *Table) NextExpiry() (ns int64, ok bool) {
	for c := range t.slots.all {
		if !c.used {
			continue
		}
		at := int64(math.MaxInt64) - int64(t.patience(c))
		if at = min(at, c.lastNS) + int64(t.patience(c)); !ok || at < ns {
			ns, ok = at, true
		}
	}
	return ns, ok
}

// patience returns how long c may be idle.
func (t *Table) patience(c *conversation) time.Duration {
	switch {
	case c.over:
		return linger
	case c.state == ebbwatch.StateS1, c.seeded, c.key.proto == ebbwatch.ProtoTCP && c.state == ebbwatch.StateOTH && c.repeated:
		return t.cfg.IdleTCP
	}
	return t.cfg.IdleOther
}

// Known reports whether packets of the conversation were seen: those open before
// the start, which the kernel told of, are not known before their first one.
func (t *Table) Known(name flowbpf.Key) bool {
	k := keyNamed(name)
	c := t.slots.find(&k)
	return c != nil && c.place != (flowbpf.Place{})
}

func keyNamed(k flowbpf.Key) key {
	return key{a: k.A, b: k.B, aPort: k.APort, bPort: k.BPort, proto: k.Proto, tunnel: k.Tunnel, mapped: k.Mapped, tunnelID: k.TunnelID}
}

// Bare returns a record without packets of a conversation that none were seen of
// in this interval, of which there is something else to tell. It is never a
// conversation's first record. Of one that is not remembered, Src is the side given:
// one that is known to have sent something. The record is valid until the next call.
func (t *Table) Bare(name flowbpf.Key, sender uint8) *Record {
	k := keyNamed(name)
	t.rec = Record{Key: name}
	c := t.slots.find(&k)
	if c == nil {
		c = &conversation{key: k, firstNS: t.startNS, src: sender}
	}
	t.final(c, &t.rec.Flow)
	at := t.clock.Time(t.clock.MonoNS)
	t.rec.Start, t.rec.End, t.rec.Final, t.rec.Src = at, at, false, c.src
	return &t.rec
}

func (t *Table) final(c *conversation, f *ebbwatch.Flow) {
	last := t.clock.Time(c.lastNS)
	*f = ebbwatch.Flow{
		Start: last, End: last, Proto: c.key.proto, Initiator: c.initiator, Interface: t.interfaces.Name(c.place), NetNS: t.interfaces.NetNS(c.place), VLAN: c.vlan,
		Tunnel: ebbwatch.Tunnel(c.key.tunnel), TunnelID: c.key.tunnelID,
		Src: c.key.addr(c.key.a), SrcPort: c.key.aPort, Dst: c.key.addr(c.key.b), DstPort: c.key.bPort,
		ConnState: c.state, ICMPType: c.icmpType, ICMPCode: c.icmpCode, AgeMS: t.age(c), Final: true, Sampling: 1,
	}
	if c.place == (flowbpf.Place{}) {
		f.Interface = "" // never seen
	}
	if c.src == 1 {
		f.Src, f.SrcPort, f.Dst, f.DstPort = f.Dst, f.DstPort, f.Src, f.SrcPort
	}
}
