package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

// segmentOf returns a segment of n records of about size bytes, and where each begins.
func segmentOf(n, size int) (data []byte, starts []int64) {
	data = appendSegmentHeader(nil)
	for i := range n {
		starts = append(starts, int64(len(data)))
		data = appendRecord(data, &Record{ID: fmt.Sprintf("host-a:%s:%d", bootA, i+1), Data: bytes.Repeat([]byte(recordMagic), size/4), Flows: i}, stateNew, int64(len(data)))
	}
	return data, starts
}

const bootA = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

// readAll returns the ids of the readable records and what was damaged.
func readAll(t *testing.T, data []byte) (ids []string, damage Tally) {
	t.Helper()
	scan := scanner{r: bytes.NewReader(data), end: int64(len(data)), at: segmentHeader}
	for {
		before := scan.at
		h, err := scan.next()
		if errors.Is(err, io.EOF) {
			return ids, scan.damage
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.offset < before || h.startOfNextRecord > int64(len(data)) || scan.at != h.startOfNextRecord {
			t.Fatalf("record from %d to %d, after %d, in %d bytes", h.offset, h.startOfNextRecord, before, len(data))
		}
		id, _, err := payload(scan.r, &h)
		if errors.Is(err, errPayload) {
			scan.damage.add(h.tally())
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
}

func TestDamageLosesNoMoreThanWhatItHit(t *testing.T) {
	const n = 5
	for _, c := range []struct {
		name    string
		spoil   func(data []byte, starts []int64) []byte
		ids     int
		batches uint64
	}{
		{"nothing", func(d []byte, _ []int64) []byte { return d }, 5, 0},
		{"the end is torn off within the data", func(d []byte, _ []int64) []byte { return d[:len(d)-1] }, 4, 1},
		{"the end is torn off within the fixed part", func(d []byte, s []int64) []byte { return d[:s[4]+recordHeader-1] }, 4, 1},
		{"the last record is zeros, as after a power cut", func(d []byte, s []int64) []byte { clear(d[s[4]:]); return d }, 4, 1},
		{"a bit of the data flips", func(d []byte, s []int64) []byte { d[s[2]+100] ^= 4; return d }, 4, 1},
		{"a bit of an id flips", func(d []byte, s []int64) []byte { d[s[0]+recordHeader] ^= 1; return d }, 4, 1},
		{"a bit of a length flips", func(d []byte, s []int64) []byte { d[s[2]+13] ^= 0x10; return d }, 4, 1},
		{"a bit of a magic flips", func(d []byte, s []int64) []byte { d[s[1]] ^= 1; return d }, 4, 1},
		{"the state is none of the three", func(d []byte, s []int64) []byte { d[s[1]+stateOffset] = 7; return d }, 5, 0},
		{"two neighbours are overwritten", func(d []byte, s []int64) []byte { clear(d[s[1]:s[3]]); return d }, 3, 1}, // one place
		{"everything after the header is noise", func(d []byte, s []int64) []byte {
			r := rand.New(rand.NewPCG(1, 2))
			for i := range d[s[0]:] {
				d[int(s[0])+i] = byte(r.Uint32())
			}
			return d
		}, 0, 1},
		{"bytes come in between", func(d []byte, s []int64) []byte { return append(append(bytes.Clone(d[:s[4]]), 1, 2, 3), d[s[4]:]...) }, 4, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, starts := segmentOf(n, 70_000)
			ids, damage := readAll(t, c.spoil(data, starts))
			if len(ids) != c.ids || damage.Batches != c.batches {
				t.Errorf("%d records read, damaged %+v", len(ids), damage)
			}
		})
	}
}

func TestHeaderOfAnotherVersionOrKindIsForeign(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty": nil, "short": []byte("ebbspool"), "text": []byte("hello, this is a text file"), "newer": append([]byte("ebbspool"), 2, 0, 0, 0, 0, 0, 0, 0),
	} {
		if err := checkSegmentHeader(bytes.NewReader(data)); !errors.Is(err, errForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := checkSegmentHeader(bytes.NewReader(appendSegmentHeader(nil))); err != nil {
		t.Error(err)
	}
}

func TestOnlyMessageIDsAreIDs(t *testing.T) {
	for id, want := range map[string]bool{
		"host-a:" + bootA + ":7": true, "host-a:" + bootA + ":": false, "host-a:" + bootA: false, "": false, "a b:" + bootA + ":1": false,
		"host-a:" + bootA + ":1\r\nX: y": false, "host-a:x\r\n:1": false, "host-a::1": false,
	} {
		if validID(id) != want {
			t.Errorf("%q is valid: %v", id, !want)
		}
	}
}

// FuzzSegment reads arbitrary bytes as a segment: it must end, stay within the
// data, and account for every byte behind the header.
func FuzzSegment(f *testing.F) {
	data, starts := segmentOf(3, 100)
	f.Add(data, uint32(0), byte(0))
	f.Add(data, uint32(starts[1]+13), byte(0xff))
	f.Add(data[:len(data)-5], uint32(starts[0]), byte(1))
	f.Add([]byte(segmentMagic+"\x01\x00\x00\x00\x00\x00\x00\x00"+recordMagic+recordMagic), uint32(0), byte(0))
	f.Fuzz(func(t *testing.T, data []byte, at uint32, flip byte) {
		if len(data) > 0 {
			data = bytes.Clone(data)
			data[int(at)%len(data)] ^= flip
		}
		if len(data) < segmentHeader {
			return
		}
		scan := scanner{r: bytes.NewReader(data), end: int64(len(data)), at: segmentHeader}
		read := uint64(0)
		for {
			h, err := scan.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			read += uint64(h.startOfNextRecord - h.offset)
			if id, b, err := payload(scan.r, &h); err == nil && (len(id) != h.idLen || len(b) != h.dataLen || !validID(id)) {
				t.Fatalf("payload %q of %d bytes, header %+v", id, len(b), h)
			}
		}
		if read+scan.damage.Bytes != uint64(len(data)-segmentHeader) {
			t.Fatalf("%d bytes read and %d damaged of %d", read, scan.damage.Bytes, len(data)-segmentHeader)
		}
	})
}
