package sink

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
)

// A block's limit is only as good as what Bytes knows of: batches that hold no
// flow record, but thousands of attach points with long names and many losses.
func TestBytesCoversWhatABatchCanHold(t *testing.T) {
	hostile := func(n int) *ebbwatch.Batch {
		b := &ebbwatch.Batch{Envelope: ebbwatch.Envelope{Agent: "a", AgentVersion: fmt.Sprint(n), Boot: fmt.Sprintf("%036d", n), Time: time.Now()}}
		for i := range 4096 {
			b.Attach = append(b.Attach, ebbwatch.AttachPoint{Interface: fmt.Sprintf("%d-%d-%s", n, i, strings.Repeat("x", 200))})
		}
		for i := range 16 {
			b.Losses = append(b.Losses, ebbwatch.Loss{Name: fmt.Sprintf("loss-%d-%d", n, i), Count: 1})
		}
		return b
	}
	block := NewBlock()
	before := heap()
	for n := range 50 {
		block.Append(hostile(n), time.Now())
	}
	grown, said := heap()-before, block.Bytes()
	runtime.KeepAlive(block)
	// Slices and maps double as they grow: up to twice what is in use.
	if said > grown || grown > 3*said {
		t.Errorf("the heap grew by %d bytes, Bytes says %d", grown, said)
	}
	if block.Rows() != 0 || block.Longest() != 50*4096 {
		t.Errorf("%d rows, the longer table has %d", block.Rows(), block.Longest())
	}
	block.Reset()
	if block.Bytes() != 0 {
		t.Errorf("%d bytes after Reset", block.Bytes())
	}
}

// A million names, each of which stands in every column that holds names.
func TestBytesCoversNames(t *testing.T) {
	hostile := func(n int) *ebbwatch.Batch {
		b := &ebbwatch.Batch{Envelope: ebbwatch.Envelope{Agent: "a", Boot: fmt.Sprintf("%036d", n), Time: time.Now()}}
		for i := range 1000 {
			b.Append(&ebbwatch.Flow{Interface: fmt.Sprintf("%d-%d-%s", n, i, strings.Repeat("x", 200)), Sampling: 1})
		}
		for g := range ebbwatch.Groups {
			b.Entries[g] = 1000
			for i := range uint16(1000) {
				b.Index[g][i] = i + 1
			}
		}
		for attr := range ebbwatch.Attributes {
			b.Attributes[attr] = nil
			for i := range uint32(1000) {
				b.Attributes[attr] = append(b.Attributes[attr], 1+i%4)
			}
			if attr.Text() {
				for i := range uint32(1000) {
					b.Attributes[attr][i] = i + 1
				}
			}
		}
		return b
	}
	block := NewBlock()
	before := heap()
	for n := range 30 {
		block.Append(hostile(n), time.Now())
	}
	grown, said := heap()-before, block.Bytes()
	runtime.KeepAlive(block)
	var buffer proto.Buffer // dictionaries of 19 columns, mostly
	if err := block.EncodeFlows(&buffer); err != nil {
		t.Fatal(err)
	}
	insert := len(buffer.Buf)
	if said < insert || said > insert+grown || grown > 3*said {
		t.Errorf("the heap grew by %d bytes, an insert is %d, Bytes says %d", grown, insert, said)
	}
	block.Reset()
	if block.Bytes() != 0 {
		t.Errorf("%d bytes after Reset", block.Bytes())
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
