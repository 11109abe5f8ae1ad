package replay

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	ct "github.com/ebbwatch/ebbwatch/agent/internal/capture/capturetest"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
)

// talks sums up records by conversation.
type talks struct{ account }

func (s *talks) Record(f *ebbwatch.Flow) error {
	key, src := talkKey{
		a: f.Src, b: f.Dst, aPort: f.SrcPort, bPort: f.DstPort, proto: f.Proto, vlan: f.VLAN, tunnel: f.Tunnel, tunnelID: f.TunnelID,
	}.oriented()
	if f.Proto == ebbwatch.ProtoTCP {
		s.health(key, src, f)
	}
	if f.SrcPackets+f.DstPackets == 0 {
		return nil // the end of a conversation that went silent
	}
	k, start, end := s.talks[key], f.Start.UnixMicro(), f.End.UnixMicro()
	if k == nil {
		k = &talk{firstUS: start, lastUS: end, icmpType: f.ICMPType, icmpCode: f.ICMPCode}
		if f.Proto == ebbwatch.ProtoICMP || f.Proto == ebbwatch.ProtoICMPv6 {
			k.asker = src
		}
		s.talks[key] = k
	}
	k.firstUS, k.lastUS = min(k.firstUS, start), max(k.lastUS, end)
	for side, c := range [2]struct {
		packets, bytes uint64
		flags          ebbwatch.TCPFlags
	}{{f.SrcPackets, f.SrcBytes, f.SrcFlags}, {f.DstPackets, f.DstBytes, f.DstFlags}} {
		k.packets[side^src] += c.packets
		k.bytes[side^src] += c.bytes
		k.flags[side^src] |= uint16(c.flags)
	}
	return nil
}

// health sums up what TCP went through.
func (s *talks) health(key talkKey, src int, f *ebbwatch.Flow) {
	k := s.tcp[key]
	if k == nil {
		k = &tcpTalk{}
		s.tcp[key] = k
	}
	for side, h := range [2]ebbwatch.Health{f.SrcHealth, f.DstHealth} {
		k.retransmits[side^src] += h.Retransmits
		k.zeroWindows[side^src] += h.ZeroWindows
		k.resets[side^src] += h.Resets
	}
	k.handshakeUS += f.HandshakeUS
	k.state, k.opener = f.ConnState, src
	k.openerKnown = f.Initiator == ebbwatch.InitiatorSYN
}

const mapSize = 65536

// replayed sums up a capture by replay.
func replayed(t *testing.T, datapath Datapath, interval time.Duration, file string) *account {
	t.Helper()
	s := &talks{*newAccount()}
	r, err := New(Config{Interval: interval, MaxFlows: mapSize}, Parts{Conversations: conn.DefaultConfig(), Datapath: datapath, Sink: s})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer Pin()()
	if err := r.File(t.Context(), file, f, nil); err != nil {
		t.Fatal(err)
	}
	totals, err := r.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if totals.Overflowed != (Count{}) {
		t.Errorf("%+v overflowed", totals.Overflowed)
	}
	s.refused = totals.Refused.Count
	return &s.account
}

func newAccount() *account {
	return &account{talks: map[talkKey]*talk{}, tcp: map[talkKey]*tcpTalk{}}
}

// difference is a conversation about which the two disagree.
type difference struct {
	key        talkKey
	want, have *talk // nil: not there
}

func (d difference) String() string {
	f := func(k *talk) string {
		if k == nil {
			return "nothing"
		}
		return fmt.Sprintf("%v packets, %v bytes, flags %#x, %d to %d µs, ICMP %d/%d, asked by %d", k.packets, k.bytes, k.flags, k.firstUS, k.lastUS, k.icmpType, k.icmpCode, k.asker)
	}
	return fmt.Sprintf("%s: tshark %s; replay %s", d.key, f(d.want), f(d.have))
}

// compareAccounts returns the differences, in the order of their keys.
func compareAccounts(want, have *account) []difference {
	var all []difference
	for key, w := range want.talks {
		if h := have.talks[key]; h == nil || *h != *w {
			all = append(all, difference{key, w, h})
		}
	}
	for key, h := range have.talks {
		if want.talks[key] == nil {
			all = append(all, difference{key, nil, h})
		}
	}
	slices.SortFunc(all, func(x, y difference) int { return strings.Compare(x.key.String(), y.key.String()) })
	return all
}

func writeTemp(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkCorpus holds replay against tshark: exactly the cases that have a reason
// may differ, and must.
func checkCorpus(t *testing.T, file string, all []specimen) {
	needRoot(t)
	want, have := reference(t, file), replayed(t, load(t, mapSize), 5*time.Second, file)
	reasons := differenceReasons(t)
	differ := map[string][]difference{}
	for _, d := range compareAccounts(want, have) {
		name := describe(all, d.key.a)
		differ[name] = append(differ[name], d)
	}
	for _, s := range all {
		if s.reason != "" && !slices.Contains(reasons, s.reason) {
			t.Errorf("%s: reason %q is not documented", s.name, s.reason)
		}
		switch got := differ[s.name]; {
		case s.reason == "" && len(got) > 0:
			t.Errorf("%s: %v", s.name, got)
		case s.reason != "" && len(got) == 0:
			t.Errorf("%s agrees, although %q should part them", s.name, s.reason)
		}
		delete(differ, s.name)
	}
	for name, d := range differ {
		t.Errorf("%s: %v", name, d)
	}
	for key, h := range have.tcp {
		w, name := want.tcp[key], describe(all, key.a)
		if w == nil {
			w = &tcpTalk{} // no segment whose flags are known
		}
		if h.zeroWindows != w.zeroWindows || h.resets != w.resets || h.retransmits != w.sentAgain() {
			t.Errorf("%s: closed windows %v, resets %v, retransmissions %v, want %v, %v, %v", name, h.zeroWindows, h.resets, h.retransmits, w.zeroWindows, w.resets, w.sentAgain())
		}
	}
}

func TestTheCorpusIsWhatTsharkSees(t *testing.T) {
	all := specimens()
	for _, format := range []struct {
		name  string
		order binary.ByteOrder
		magic uint32
	}{{"nanoseconds", binary.LittleEndian, ct.Nano}, {"microseconds, big endian", binary.BigEndian, ct.Micro}} {
		t.Run(format.name, func(t *testing.T) {
			checkCorpus(t, writeTemp(t, "corpus.pcap", ct.PCAP(format.order, format.magic, linkEthernet, corpus(all)...)), all)
		})
	}
}

func TestFramesOfAllLinkTypesAreWhatTsharkSees(t *testing.T) {
	file, all := linkCorpus()
	checkCorpus(t, writeTemp(t, "links.pcapng", file), all)
}

// captures is a folder of captures that is no part of this repository.
const captures = "../../../../shared/data/pcap"

// eachCapture calls test for each of them.
func eachCapture(t *testing.T, test func(t *testing.T, path string)) {
	t.Helper()
	if _, err := os.Stat(captures); err != nil {
		t.Skip("no captures at", captures)
	}
	err := filepath.WalkDir(captures, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains([]string{".pcap", ".pcapng", ".trace", ".cap"}, filepath.Ext(path)) {
			t.Run(filepath.Base(path), func(t *testing.T) { test(t, path) })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCapturesAreWhatTsharkSees(t *testing.T) {
	needRoot(t)
	datapath := load(t, mapSize)
	eachCapture(t, func(t *testing.T, path string) {
		want, have := reference(t, path), replayed(t, datapath, 5*time.Second, path)
		differ := compareAccounts(want, have)
		for _, d := range differ[:min(len(differ), 5)] {
			t.Error(d)
		}
		if len(differ) > 0 {
			t.Errorf("%d of %d conversations differ", len(differ), len(want.talks))
		}
		if want.refused != have.refused {
			t.Errorf("refused: tshark %+v, replay %+v", want.refused, have.refused)
		}
		// Retransmissions are seen within an interval: the longer, the more.
		checkHealth(t, path, want, replayed(t, datapath, maxInterval, path))
	})
}

// differenceReasons returns the reasons why tshark and replay may disagree about
// a case: the first column of the table in docs/replay.md, which explains them.
func differenceReasons(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/replay.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| reason | tshark |")
	var reasons []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(table, -1) {
		reasons = append(reasons, row[1])
	}
	if len(reasons) == 0 {
		t.Fatal("docs/replay.md has no table of differences")
	}
	return reasons
}
