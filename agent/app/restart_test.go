package app_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/app"
)

// The numbered datagrams have destinations of their own, so that each is a flow,
// and a record tells which of them it is about.
const (
	numberedNet    = "10.64.0.0/10"
	numberedLength = 14 + 20 + 8 + 8 // of the frame
)

func numbered(n uint32) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 10<<24|64<<16+n)
	return netip.AddrFrom4(a)
}

// numberOf returns the number of a destination, false if it is none.
func numberOf(a netip.Addr) (uint32, bool) {
	if !netip.MustParsePrefix(numberedNet).Contains(a) {
		return 0, false
	}
	b := a.As4()
	return binary.BigEndian.Uint32(b[:]) - (10<<24 | 64<<16), true
}

// numbers sends numbered datagrams, thousands in a second, through up0 until it is
// stopped. Nothing else passes up0.
type numbers struct {
	mu       sync.Mutex
	begun    []time.Time // of each: before the system call that sends it
	sent     []time.Time // and after it
	stopping chan struct{}
	stopped  chan error
}

// sendNumbers begins to send to a new neighbour.
func sendNumbers(t *testing.T) *numbers {
	t.Helper()
	quiet(t)
	peer := newHost(t)
	peer.plug("up0", "eth0", "10.9.0.2/24")
	var mac net.HardwareAddr
	peer.run(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		mac = l.Attrs().HardwareAddr
		receiver, err := net.ListenPacket("udp4", ":9")
		if err != nil {
			return err
		}
		t.Cleanup(func() { receiver.Close() }) // until then nobody answers that nobody listens
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		_, all, err := net.ParseCIDR(numberedNet)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Dst: all, LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST})
	})
	if err := number("up0", "10.9.0.1/24"); err != nil {
		t.Fatal(err)
	}
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: mustLink(t, "up0").Attrs().Index, IP: net.IPv4(10, 9, 0, 2), HardwareAddr: mac, State: netlink.NUD_PERMANENT}); err != nil {
		t.Fatal(err)
	}
	if err := route(numberedNet, "10.9.0.2"); err != nil {
		t.Fatal(err)
	}
	for mustLink(t, "up0").Attrs().OperState != netlink.OperUp {
		time.Sleep(time.Millisecond) // until then a queue drops what is sent
	}
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &numbers{stopping: make(chan struct{}), stopped: make(chan error, 1)}
	go func() {
		defer c.Close()
		s.stopped <- s.send(c)
	}()
	return s
}

func (s *numbers) send(c *net.UDPConn) error {
	for n := uint32(0); ; n++ {
		select {
		case <-s.stopping:
			return nil
		default:
		}
		if n%4 == 0 {
			time.Sleep(500 * time.Microsecond)
		}
		begun := time.Now()
		if _, err := c.WriteToUDPAddrPort(binary.BigEndian.AppendUint64(nil, uint64(n)), netip.AddrPortFrom(numbered(n), 9)); err != nil {
			return fmt.Errorf("send datagram %d: %w", n, err)
		}
		s.mu.Lock()
		s.begun, s.sent = append(s.begun, begun), append(s.sent, time.Now())
		s.mu.Unlock()
	}
}

func (s *numbers) stop(t *testing.T) {
	t.Helper()
	close(s.stopping)
	if err := <-s.stopped; err != nil {
		t.Fatal(err)
	}
}

// sentBefore is the number of the first datagram that had not been sent at that time.
func (s *numbers) sentBefore(at time.Time) uint32 {
	n, _ := slices.BinarySearchFunc(s.sent, at, time.Time.Compare)
	return uint32(n)
}

// begunBefore is the number of the first that was begun at that time or later.
func (s *numbers) begunBefore(at time.Time) uint32 {
	n, _ := slices.BinarySearchFunc(s.begun, at, time.Time.Compare)
	return uint32(n)
}

// programs returns the ids of what is attached to both hooks of up0, nothing of
// hooks without a program: those of the agent, also of what it leaves there for a
// moment when it ends.
func programs(mode string) (ids []ebpf.ProgramID, err error) {
	l, err := netlink.LinkByName("up0")
	if err != nil {
		return nil, err
	}
	for _, hook := range []struct {
		at     ebpf.AttachType
		parent uint32
	}{{ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS}, {ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS}} {
		if mode == "tcx" {
			r, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: hook.at})
			if err != nil {
				return nil, err
			}
			for _, p := range r.Programs {
				ids = append(ids, p.ID)
			}
			continue
		}
		filters, err := netlink.FilterList(l, hook.parent)
		if err != nil {
			return nil, err
		}
		for _, f := range filters {
			if b, ok := f.(*netlink.BpfFilter); ok {
				ids = append(ids, ebpf.ProgramID(b.Id))
			}
		}
	}
	return ids, nil
}

// agentRun is one run of the real binary, as the test and the kernel see it.
type agentRun struct {
	cmd *exec.Cmd
	log bytes.Buffer
	// Each program that was attached. The test holds them, so that the kernel still
	// tells how often it ran them when the agent is gone.
	programs []*ebpf.Program
	ids      []ebpf.ProgramID
	attached time.Time // the programs were there
	last     time.Time // they still were
	gone     time.Time // they were not
}

// restartRig restarts an agent beside a NATS server under numbered traffic.
type restartRig struct {
	t      *testing.T
	mode   string
	broker *broker
	r      *running
	spool  string
	*numbers
}

func newRestartRig(t *testing.T, mode string) *restartRig {
	t.Helper()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stats.Close() })
	s := sendNumbers(t)
	if _, err := programs(mode); err != nil && mode == "tcx" {
		t.Skip("this kernel has no tcx")
	}
	b := newBroker(t)
	return &restartRig{t, mode, b, &running{t: t, broker: b, stream: b.stream()}, filepath.Join(t.TempDir(), "spool"), s}
}

// restartInterval is the time between two drains of these agents.
const restartInterval = 200 * time.Millisecond

// start starts an agent and waits until it has drained a few times.
func (g *restartRig) start() *agentRun {
	g.t.Helper()
	a := &agentRun{cmd: exec.CommandContext(g.t.Context(), buildAgent(g.t, "0"), "run")}
	a.cmd.Dir = "/"
	a.cmd.Env = append(os.Environ(), "EBBWATCH_NAME=host-a", "EBBWATCH_NATS_URL="+g.broker.url(), "EBBWATCH_DRAIN_INTERVAL="+restartInterval.String(), "EBBWATCH_LISTEN="+opsAddress,
		"EBBWATCH_SPOOL_DIR="+g.spool, "EBBWATCH_DATAPATH_ATTACH="+g.mode)
	a.cmd.Stderr = &a.log
	if err := a.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.r.watches(1)
	a.attached = time.Now()
	ids, err := programs(g.mode)
	if err != nil || len(ids) != 2 {
		g.t.Fatalf("%d programs are attached to up0: %v", len(ids), err)
	}
	a.ids = ids
	for _, id := range ids {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(func() { _ = p.Close() })
		a.programs = append(a.programs, p)
	}
	g.r.drains(3)
	return a
}

// end sends the signal and watches until the agent has gone.
func (g *restartRig) end(a *agentRun, s syscall.Signal) {
	g.t.Helper()
	ended := make(chan error, 1)
	a.last = time.Now() // nobody has told it to go
	if err := a.cmd.Process.Signal(s); err != nil {
		g.t.Fatal(err)
	}
	go func() { ended <- a.cmd.Wait() }()
	for deadline := time.Now().Add(patience); a.gone.IsZero(); {
		before := time.Now()
		ids, err := programs(g.mode)
		if err != nil {
			g.t.Fatal(err)
		}
		ids = slices.DeleteFunc(ids, func(id ebpf.ProgramID) bool { return !slices.Contains(a.ids, id) })
		switch {
		case len(ids) == 2:
			a.last = before
		case len(ids) == 0:
			a.gone = time.Now()
		case before.After(deadline):
			g.t.Fatal("the programs stay attached")
		}
	}
	if err := <-ended; err != nil && s == syscall.SIGTERM || strings.Contains(a.log.String(), "ERROR") {
		g.t.Errorf("the agent ended with %v:\n%s", err, a.log.String())
	}
	if ids, err := programs(g.mode); err != nil || len(ids) != 0 {
		g.t.Errorf("%d programs stay attached: %v", len(ids), err)
	}
}

// ran is how often the kernel ran the agent's programs.
func (a *agentRun) ran(t *testing.T) (n uint64) {
	t.Helper()
	for _, p := range a.programs {
		s, err := p.Stats()
		if err != nil {
			t.Fatal(err)
		}
		n += s.RunCount
	}
	return n
}

// told is what the batches of one run tell.
type told struct {
	boot       string
	batches    []ebbwatch.Envelope
	seen       ebbwatch.Counter
	unrecorded ebbwatch.Counter // overflow, other, skipped
	from, to   uint32           // the first datagram in a record, and the first after the last one
	ended      bool             // in order, with the last batch
}

// told reads the stream. It checks that the batches of each run are numbered from
// 1, that each attach point balances and the records add up, and that the datagrams
// in the records are consecutive ones, each once.
func (g *restartRig) told() (runs []*told) {
	t := g.t
	t.Helper()
	info, err := g.r.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var decoder ebbwatch.Decoder
	var recorded, inRecords ebbwatch.Counter
	var got []uint32
	for seq := uint64(1); seq <= info.State.LastSeq; seq++ {
		msg, err := g.r.stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		var b ebbwatch.Batch
		if err := decoder.Decode(msg.Data, &b); err != nil {
			t.Fatal(err)
		}
		if len(runs) == 0 || runs[len(runs)-1].boot != b.Boot {
			runs = append(runs, &told{boot: b.Boot, from: 1<<32 - 1})
		}
		run := runs[len(runs)-1]
		run.batches = append(run.batches, b.Envelope)
		if b.Sequence != uint64(len(run.batches)) || run.ended {
			t.Errorf("batch %d of run %s has sequence %d; the run had ended: %v", len(run.batches), b.Boot, b.Sequence, run.ended)
		}
		run.ended = b.Last
		for _, a := range b.Attach {
			sum := a.Overflow
			sum.Add(a.Other)
			sum.Add(a.Skipped)
			run.unrecorded.Add(sum)
			sum.Add(a.Recorded)
			if a.Seen != sum || a.Interface != "up0" {
				t.Errorf("%+v does not balance", a)
			}
			run.seen.Add(a.Seen)
			recorded.Add(a.Recorded)
		}
		for i := range b.Len() {
			f := b.Flow(i)
			if f.SrcPackets+f.DstPackets == 0 {
				continue // what the kernel dropped elsewhere
			}
			inRecords.Add(ebbwatch.Counter{Packets: f.SrcPackets + f.DstPackets, Bytes: f.SrcBytes + f.DstBytes})
			n, ok := numberOf(f.Dst)
			if !ok || f.SrcPackets != 1 || f.SrcBytes != numberedLength || f.DstPackets != 0 {
				t.Errorf("record of something else: %+v", f)
				continue
			}
			got = append(got, n)
			run.from, run.to = min(run.from, n), max(run.to, n+1)
		}
	}
	if recorded != inRecords {
		t.Errorf("records hold %+v, attach points recorded %+v", inRecords, recorded)
	}
	var want []uint32
	for _, run := range runs {
		for n := run.from; n < run.to; n++ {
			want = append(want, n)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d datagrams stand in records, of the runs' %d", len(got), len(want))
	}
	return runs
}

// Whatever the programs of an agent that is ended counted is in its batches, to the
// last packet, as the kernel says how often it ran them; and what no agent counted
// passed while none was attached.
func TestRestartUnderTrafficIsAccountedInFull(t *testing.T) {
	buildAgent(t, "0")
	for _, mode := range []string{"tcx", "tc"} {
		t.Run(mode, func(t *testing.T) {
			if !inNamespace(t) {
				return
			}
			g := newRestartRig(t, mode)
			var runs []*agentRun
			for range 3 {
				a := g.start()
				g.end(a, syscall.SIGTERM)
				runs = append(runs, a)
				time.Sleep(50 * time.Millisecond)
			}
			g.stop(t)
			var counted ebbwatch.Counter
			all := g.told()
			if len(all) != len(runs) {
				t.Fatalf("%d runs are told of, want %d", len(all), len(runs))
			}
			for i, run := range all {
				a := runs[i]
				if !run.ended {
					t.Errorf("run %d does not say that it ended", i)
				}
				if n := a.ran(t); run.seen.Packets != n || n < 100 {
					t.Errorf("run %d: %d packets told, the kernel ran its programs %d times", i, run.seen.Packets, n)
				}
				if n := uint64(run.to - run.from); run.seen.Packets != n || run.seen.Bytes != n*numberedLength || run.unrecorded != (ebbwatch.Counter{}) {
					t.Errorf("run %d: seen %+v, in no record %+v; datagrams %d to %d", i, run.seen, run.unrecorded, run.from, run.to)
				}
				if from, to := g.sentBefore(a.attached), g.sentBefore(a.last); run.from > from || run.to < to {
					t.Errorf("run %d: recorded are %d to %d, sent while its programs were attached %d to %d", i, run.from, run.to, from, to)
				}
				if after := g.begunBefore(a.gone); run.to > after {
					t.Errorf("run %d: recorded are %d to %d, its programs had gone at %d", i, run.from, run.to, after)
				}
				if i > 0 {
					before, first := all[i-1].batches[len(all[i-1].batches)-1], run.batches[0]
					gap := first.Time.Add(-time.Duration(first.IntervalMS+1) * time.Millisecond).Sub(before.Time)
					if gap < 0 {
						t.Errorf("run %d claims to have watched for %v of the run before it", i, -gap)
					}
					t.Logf("nobody watched for %v, in which %d datagrams passed", gap, run.from-all[i-1].to)
				}
				counted.Add(run.seen)
			}
			// What the kernel counted on the interface is what the agents counted and what
			// passed nobody.
			missed := uint64(all[0].from)
			for i := range all[1:] {
				missed += uint64(all[i+1].from - all[i].to)
			}
			missed += uint64(uint32(len(g.sent)) - all[len(all)-1].to)
			s := mustLink(t, "up0").Attrs().Statistics
			kernel := ebbwatch.Counter{Packets: s.RxPackets + s.TxPackets, Bytes: s.RxBytes + s.TxBytes}
			kernel.Add(ebbwatch.Counter{Packets: s.TxDropped, Bytes: s.TxDropped * numberedLength}) // after the hook, for want of room at the peer
			if kernel != (ebbwatch.Counter{Packets: counted.Packets + missed, Bytes: counted.Bytes + missed*numberedLength}) {
				t.Errorf("the kernel counted %+v; the agents %+v, and %d packets passed while none was there", kernel, counted, missed)
			}
			t.Logf("%+v counted in %d runs, %d passed while no agent was there", counted, len(all), missed)
		})
	}
}

// However many interfaces there are, an agent that is ended delivers what they counted
// within the 2 s that `ebbwatch up` gives it, and then leaves nothing on them. The kernel
// takes more than that to close the links of a hundred.
func TestAHundredInterfacesDoNotDelayTheLastBatch(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const more, limit = 100, 2 * time.Second
	s := sendNumbers(t)
	if _, err := programs("tcx"); err != nil {
		t.Skip("this kernel has no tcx")
	}
	for i := range more {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("up-%d", i), Flags: net.FlagUp}, PeerName: fmt.Sprintf("down-%d", i)}
		if err := netlink.LinkAdd(v); err != nil {
			t.Fatal(err)
		}
	}
	r := runAgent(t, func(cfg *app.Config) { cfg.Interfaces.Include = []string{"up*"} })
	r.watches(more + 1)
	r.drains(2)
	begin := time.Now()
	r.stop()
	if err := <-r.told; err != nil {
		t.Error(err)
	}
	took := time.Since(begin)
	if took > limit {
		t.Errorf("everything is delivered after %v, want %v at most", took, limit)
	}
	s.stop(t)
	_, seen := r.finishRepeated()
	t.Logf("everything is delivered after %v, the interfaces are let go of after %v", took, time.Since(begin))
	if len(seen) != more+1 || seen["up0"].Packets == 0 {
		t.Errorf("%d interfaces were watched, up0 saw %+v", len(seen), seen["up0"])
	}
	for name := range seen {
		for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			q, err := link.QueryPrograms(link.QueryOptions{Target: mustLink(t, name).Attrs().Index, Attach: hook})
			if err != nil || len(q.Programs) != 0 {
				t.Errorf("%d programs stay on %s: %v", len(q.Programs), name, err)
			}
		}
	}
}

// A killed agent loses what its programs counted since the last drain, no more, and
// the batches say that the run did not end in order.
func TestKillUnderTrafficLosesOneIntervalAndShows(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	g := newRestartRig(t, "tcx")
	killed := g.start()
	g.end(killed, syscall.SIGKILL)
	after := g.start()
	g.end(after, syscall.SIGTERM)
	g.stop(t)
	all := g.told()
	if len(all) != 2 || all[0].ended || !all[1].ended {
		t.Fatalf("of %d runs, the killed one ended in order: %v; the other: %v", len(all), all[0].ended, all[len(all)-1].ended)
	}
	lost := killed.ran(t) - all[0].seen.Packets
	from := all[0].to // the first that stands in no record
	// A drain may have come after the last look at the programs.
	least, most := uint64(max(g.sentBefore(killed.last), from)-from), uint64(g.begunBefore(killed.gone)-from)
	if lost < least || lost > most {
		t.Errorf("%d packets are lost, %d to %d were sent between the last one in a record and the kill", lost, least, most)
	}
	// A drain of a busy machine may come late, and a batch be on its way.
	lasted := killed.gone.Sub(g.begun[from])
	if lasted > restartInterval+time.Second {
		t.Errorf("lost is what passed in %v, drains come every %v", lasted, restartInterval)
	}
	t.Logf("%d of %d packets are lost, those of the last %v", lost, killed.ran(t), lasted)
}
