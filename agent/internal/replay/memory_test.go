package replay

import (
	"encoding/binary"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	ct "github.com/ebbwatch/ebbwatch/agent/internal/capture/capturetest"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
)

// stream is a pcap file of any length: packets of ever new conversations, three
// of each, at a rate of 200,000 a second of capture time. It calls sample once
// for every 65,536 packets.
type stream struct {
	packets, at uint32
	record      []byte // header and frame
	buffer      []byte
	sample      func()
}

func newStream(packets uint32) *stream {
	frame := segment(false, ct.SYN)
	file := ct.PCAP(little, ct.Nano, linkEthernet, ct.Packet{Data: frame})
	return &stream{packets: packets, record: file[24:], buffer: file[:24:24], sample: func() {}}
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.buffer) == 0 {
		if s.at == s.packets {
			return 0, io.EOF
		}
		ns := epoch + int64(s.at)*5000
		little.PutUint32(s.record, uint32(ns/1e9))
		little.PutUint32(s.record[4:], uint32(ns%1e9))
		// The source address is the number of the conversation.
		binary.BigEndian.PutUint32(s.record[16+14+12:], 0x20000000|s.at/3)
		s.buffer = s.record
		if s.at++; s.at%65536 == 0 {
			s.sample()
		}
	}
	n := copy(p, s.buffer)
	s.buffer = s.buffer[n:]
	return n, nil
}

// counter counts records and forgets them.
type counter struct{ records int }

func (c *counter) Record(*ebbwatch.Flow) error {
	c.records++
	return nil
}

func TestMemoryDoesNotGrowWithTheCapture(t *testing.T) {
	needRoot(t)
	packets := uint32(2 << 20)
	if testing.Short() || raceDetector {
		packets /= 8
	}
	const maxFlows = 8192
	conversations := conn.DefaultConfig()
	conversations.MaxConversations = 16384
	var out counter
	r, err := New(Config{Interval: 5 * time.Second, MaxFlows: maxFlows}, Parts{Conversations: conversations, Datapath: load(t, maxFlows), Sink: &out})
	if err != nil {
		t.Fatal(err)
	}
	s := newStream(packets)
	var early, most uint64
	samples := 0
	s.sample = func() {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		if samples++; samples == 4 { // warm
			early = m.HeapAlloc
		}
		most = max(most, m.HeapAlloc)
	}
	began := time.Now()
	if err := r.File(t.Context(), "stream", s, nil); err != nil {
		t.Fatal(err)
	}
	totals, err := r.Finish()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.0f packets/s, heap %d to %d KiB", float64(packets)/time.Since(began).Seconds(), early>>10, most>>10)
	if totals.Recorded.Packets != uint64(packets) || totals.Overflowed != (Count{}) {
		t.Errorf("totals %+v, want %d packets recorded", totals, packets)
	}
	if want := int(packets / 3); out.records < want || out.records > want+want/100 {
		t.Errorf("%d records, want little above %d", out.records, want)
	}
	const limit = 32 << 20
	if most > early+1<<20 || most > limit {
		t.Errorf("heap grew from %d to %d bytes, want no growth and at most %d", early, most, limit)
	}
}

func BenchmarkReplay(b *testing.B) {
	if testing.Short() {
		b.Skip("loads programs")
	}
	var out counter
	r, err := New(Config{Interval: 5 * time.Second, MaxFlows: 65536}, Parts{Conversations: conn.DefaultConfig(), Datapath: load(b, 65536), Sink: &out})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	if err := r.File(b.Context(), "stream", newStream(uint32(b.N)), nil); err != nil {
		b.Fatal(err)
	}
	if _, err := r.Finish(); err != nil {
		b.Fatal(err)
	}
}
