package replay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/capture"
	ct "github.com/ebbwatch/ebbwatch/agent/internal/capture/capturetest"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// epoch is a time that every interval of up to a minute can begin at.
const epoch = int64(1_700_000_040) * 1e9

var little = binary.LittleEndian

// needRoot skips where programs cannot be loaded, except in CI.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func load(t testing.TB, maxFlows int) *flowbpf.Datapath {
	t.Helper()
	d, err := flowbpf.Load(DatapathConfig(uint32(maxFlows)), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// sink keeps the records.
type sink struct{ flows []ebbwatch.Flow }

func (s *sink) Record(f *ebbwatch.Flow) error {
	s.flows = append(s.flows, *f)
	return nil
}

// setup is a replay of files on a small datapath.
type setup struct {
	interval  time.Duration
	maxFlows  int
	keepGoing bool
	files     [][]byte
}

func (s setup) run(t *testing.T) (flows []ebbwatch.Flow, totals *Totals, err error) {
	t.Helper()
	needRoot(t)
	if s.interval == 0 {
		s.interval = 5 * time.Second
	}
	if s.maxFlows == 0 {
		s.maxFlows = 1024
	}
	var out sink
	r, err := New(Config{Interval: s.interval, MaxFlows: s.maxFlows, KeepGoing: s.keepGoing}, Parts{Conversations: conn.DefaultConfig(), Datapath: load(t, s.maxFlows), Sink: &out})
	if err != nil {
		t.Fatal(err)
	}
	var problem error
	for _, file := range s.files {
		if err := r.File(context.Background(), "test.pcap", bytes.NewReader(file), nil); err != nil {
			problem = err
			break
		}
	}
	totals, err = r.Finish()
	if err != nil {
		t.Error(err)
	}
	return out.flows, totals, problem
}

var hostA, hostB = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")

// segment is a frame from host A's port 1000 to host B's port 80, or back.
func segment(back bool, flags uint16) []byte {
	if back {
		return ct.Ether(ct.EtherIP4, ct.IP4{Src: hostB, Dst: hostA, Proto: ct.TCP}.With(ct.Segment{Sport: 80, Dport: 1000, Flags: flags}.Bytes()))
	}
	return ct.Ether(ct.EtherIP4, ct.IP4{Src: hostA, Dst: hostB, Proto: ct.TCP}.With(ct.Segment{Sport: 1000, Dport: 80, Flags: flags}.Bytes()))
}

func at(ms int64, frame []byte) ct.Packet { return ct.Packet{TimeNS: epoch + ms*1e6, Data: frame} }

func pcap(packets ...ct.Packet) []byte { return ct.PCAP(little, ct.Nano, linkEthernet, packets...) }

// conversation opens at 0 s and closes at 12 s.
func conversation() []ct.Packet {
	return []ct.Packet{
		at(100, segment(false, ct.SYN)), at(101, segment(true, ct.SYN|ct.ACK)), at(102, segment(false, ct.ACK)),
		at(6000, segment(true, ct.ACK|ct.PSH)),
		at(12000, segment(false, ct.FIN|ct.ACK)), at(12001, segment(true, ct.FIN|ct.ACK)), at(12002, segment(false, ct.ACK)),
	}
}

func when(ms int64) time.Time { return time.Unix(0, epoch+ms*1e6).UTC() }

func TestAConversationHasARecordForEachIntervalOfCaptureTime(t *testing.T) {
	flows, totals, err := setup{files: [][]byte{pcap(conversation()...)}}.run(t)
	if err != nil {
		t.Fatal(err)
	}
	want := []ebbwatch.Flow{
		{Start: when(100), End: when(102), SrcPackets: 2, SrcBytes: 108, DstPackets: 1, DstBytes: 54, SrcFlags: 0x12, DstFlags: 0x12, ConnState: ebbwatch.StateS1},
		{Start: when(6000), End: when(6000), DstPackets: 1, DstBytes: 54, DstFlags: 0x18, ConnState: ebbwatch.StateS1, AgeMS: 4900},
		{Start: when(12000), End: when(12002), SrcPackets: 2, SrcBytes: 108, DstPackets: 1, DstBytes: 54, SrcFlags: 0x11, DstFlags: 0x11, ConnState: ebbwatch.StateSF, AgeMS: 9900, Final: true},
	}
	if len(flows) != len(want) {
		t.Fatalf("%d records, want %d:\n%+v", len(flows), len(want), flows)
	}
	for i, w := range want {
		w.Src, w.SrcPort, w.Dst, w.DstPort, w.Proto, w.Initiator, w.Interface, w.Sampling = hostA, 1000, hostB, 80, 6, ebbwatch.InitiatorSYN, "test.pcap", 1
		g := flows[i]
		w.SrcHealth, w.DstHealth, w.HandshakeUS, w.RTTUS = g.SrcHealth, g.DstHealth, g.HandshakeUS, g.RTTUS // have tests of their own
		if g != w {
			t.Errorf("record %d\n%+v, want\n%+v", i, g, w)
		}
	}
	if totals.Seen != (Count{7, 7 * 54}) || totals.Recorded != totals.Seen || totals.Conversations != 1 || totals.Records != 3 {
		t.Errorf("totals %+v", totals)
	}
}

func TestFilesAreOneStream(t *testing.T) {
	c := conversation()
	flows, totals, err := setup{files: [][]byte{pcap(c[:3]...), pcap(c[3:]...)}}.run(t)
	if err != nil || len(flows) != 3 || totals.Conversations != 1 || flows[2].ConnState != ebbwatch.StateSF {
		t.Errorf("%d records of %d conversations, error %v, want 3 of 1", len(flows), totals.Conversations, err)
	}
}

func TestSilenceEndsAConversation(t *testing.T) {
	c := conversation()
	late := c[3]
	late.TimeNS += int64(16 * time.Minute)
	flows, totals, err := setup{files: [][]byte{pcap(append(c[:3], late)...)}}.run(t)
	if err != nil || len(flows) != 3 {
		t.Fatalf("%d records and error %v, want 3", len(flows), err)
	}
	if f := &flows[1]; !f.Final || f.SrcPackets+f.DstPackets != 0 || !f.End.Equal(when(102)) || f.AgeMS < 14*60*1000 || f.AgeMS > 15*60*1000 {
		t.Errorf("second record %+v, want the end of the first conversation after 15 minutes", f)
	}
	if totals.Conversations != 2 || flows[2].AgeMS != 0 || flows[2].ConnState != ebbwatch.StateOTH {
		t.Errorf("%d conversations, the last record %+v, want a new one", totals.Conversations, flows[2])
	}
}

func TestTimeMayFallBack(t *testing.T) {
	early := at(-3_600_000, segment(true, ct.ACK))
	flows, totals, err := setup{files: [][]byte{pcap(at(0, segment(false, ct.ACK)), early, at(1, segment(false, ct.ACK)))}}.run(t)
	if err != nil || totals.Recorded.Packets != 3 || len(flows) != 3 {
		t.Fatalf("%d records of %d packets, error %v, want 3 of 3", len(flows), totals.Recorded.Packets, err)
	}
	if !flows[1].Start.Equal(when(-3_600_000)) {
		t.Errorf("second record begins at %v, want %v", flows[1].Start, when(-3_600_000))
	}
}

func TestTimeMayJumpByDecades(t *testing.T) {
	// The conversation's last packet is of 2023, then the capture claims 1970 and 2023 again.
	var packets []ct.Packet
	for range 50 {
		packets = append(packets, at(0, segment(false, ct.ACK)), ct.Packet{TimeNS: 1, Data: segment(false, ct.ACK)})
	}
	begin := time.Now()
	flows, totals, err := setup{interval: 100 * time.Millisecond, files: [][]byte{pcap(packets...)}}.run(t)
	if err != nil || totals.Recorded.Packets != 100 || len(flows) < 100 {
		t.Fatalf("%d records of %d packets, error %v, want 100 of 100", len(flows), totals.Recorded.Packets, err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("replay took %v", took)
	}
}

func TestARecordCoversItsPacketsInAnyOrder(t *testing.T) {
	c := conversation()[:3]
	want, _, err := setup{files: [][]byte{pcap(c...)}}.run(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][3]int{{1, 0, 2}, {2, 1, 0}, {1, 2, 0}, {0, 2, 1}} {
		got, _, err := setup{files: [][]byte{pcap(c[order[0]], c[order[1]], c[order[2]])}}.run(t)
		if err != nil || len(got) != 1 {
			t.Fatalf("order %v: %d records and error %v, want 1", order, len(got), err)
		}
		g, w := got[0], want[0]
		if !g.Start.Equal(w.Start) || !g.End.Equal(w.End) || g.Src != w.Src || g.ConnState != w.ConnState {
			t.Errorf("order %v: record\n%+v, want\n%+v", order, g, w)
		}
	}
}

// flood is n datagrams, each from another port.
func flood(n int) []ct.Packet {
	packets := make([]ct.Packet, n)
	for i := range packets {
		src := netip.AddrFrom4([4]byte{10, 1, byte(i >> 16), byte(i >> 8)})
		packets[i] = ct.Packet{TimeNS: epoch + int64(i)*1000, Data: ct.Ether(ct.EtherIP4, ct.IP4{Src: src, Dst: hostB, Proto: ct.UDP}.With(ct.Datagram(uint16(1+i&0xff), 53)))}
	}
	return packets
}

func TestAFullMapIsDrainedBeforeItOverflows(t *testing.T) {
	flows, totals, err := setup{maxFlows: 64, files: [][]byte{pcap(flood(1000)...)}}.run(t)
	if err != nil || len(flows) != 1000 || totals.Overflowed != (Count{}) {
		t.Errorf("%d records, %+v overflowed, error %v, want 1000 and none", len(flows), totals.Overflowed, err)
	}
}

func TestAMapThatIsNotFullIsNotDrainedEarly(t *testing.T) {
	var packets []ct.Packet
	for i := range int64(1000) {
		packets = append(packets, at(i, segment(i%2 == 0, ct.ACK)))
	}
	flows, _, err := setup{maxFlows: 64, files: [][]byte{pcap(packets...)}}.run(t)
	if err != nil || len(flows) != 1 || flows[0].SrcPackets+flows[0].DstPackets != 1000 {
		t.Errorf("%d records and error %v, want one of 1000 packets", len(flows), err)
	}
}

func TestAnUnknownLinkTypeEndsTheReplayAndNamesThePacket(t *testing.T) {
	g := &ct.NG{Order: little}
	g.Section()
	g.Interface(linkEthernet, 0)
	g.Interface(147, 0)
	g.Enhanced(0, 1, at(0, segment(false, ct.SYN)))
	g.Enhanced(1, 2, ct.Packet{Data: make([]byte, 30), Length: 90})
	g.Enhanced(0, 3, at(0, segment(true, ct.ACK)))
	file := g.Bytes()
	flows, totals, err := setup{files: [][]byte{file}}.run(t)
	var where *capture.Error
	if !errors.As(err, &where) || where.Packet != 2 || !strings.Contains(err.Error(), "link type 147 is not known") {
		t.Errorf("error %v, want one about packet 2", err)
	}
	if len(flows) != 1 || totals.Seen != (Count{2, 144}) || totals.Refused.Reasons[reasonLink] != 1 {
		t.Errorf("%d records, totals %+v", len(flows), totals)
	}
	flows, totals, err = setup{keepGoing: true, files: [][]byte{file}}.run(t)
	if err != nil || totals.Seen.Packets != 3 || totals.Recorded.Packets != 2 || totals.Refused.Count != (Count{1, 90}) {
		t.Errorf("with keep-going: %d records, totals %+v, error %v", len(flows), totals, err)
	}
}

func TestABrokenFileLeavesWhatCameBefore(t *testing.T) {
	file := pcap(conversation()...)
	flows, totals, err := setup{files: [][]byte{file[:len(file)-60]}}.run(t)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "packet 7 (byte 444): the file ends inside ") {
		t.Errorf("error %v, want one about packet 7", err)
	}
	if len(flows) != 3 || totals.Recorded.Packets != 6 {
		t.Errorf("%d records of %d packets, want 3 of 6", len(flows), totals.Recorded.Packets)
	}
}

func TestWhatIsCutInsideTheHeadersIsRefused(t *testing.T) {
	whole := segment(false, ct.ACK)
	var packets []ct.Packet
	for n := range 34 {
		packets = append(packets, ct.Packet{TimeNS: epoch, Data: whole[:n], Length: 54})
	}
	flows, totals, err := setup{files: [][]byte{pcap(packets...)}}.run(t)
	if err != nil || len(flows) != 0 || totals.Refused.Count != (Count{34, 34 * 54}) {
		t.Errorf("%d records, totals %+v, error %v, want 34 refused", len(flows), totals, err)
	}
}

func TestAnIntervalOutOfRangeIsRefused(t *testing.T) {
	for _, interval := range []time.Duration{0, time.Millisecond, time.Hour} {
		if _, err := New(Config{Interval: interval}, Parts{Conversations: conn.DefaultConfig()}); err == nil {
			t.Errorf("interval %v is accepted", interval)
		}
	}
}
