package sink

import (
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"

	"github.com/ebbwatch/ebbwatch"
)

// BenchmarkDecodeAppend decodes realistic batches of 100 flows, checks them and
// appends them to the columns of an insert; ns/flow is the figure.
func BenchmarkDecodeAppend(b *testing.B) {
	const flows = 100
	now := time.Now()
	fleet := flowgen.New(1, 100, now.Add(-time.Minute), 5*time.Second)
	var encoder ebbwatch.Encoder
	var messages [][]byte
	var subjects []string
	size := 0
	for range 1000 {
		var in ebbwatch.Batch
		fleet.Next(&in, flows)
		message, err := encoder.Encode(nil, &in)
		if err != nil {
			b.Fatal(err)
		}
		messages, subjects, size = append(messages, message), append(subjects, ebbwatch.FlowSubject(in.Agent)), size+len(message)
	}
	decoder := batch.NewDecoder(batch.Limits{MaxAhead: time.Hour, MaxAge: time.Hour})
	block := NewBlock()
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if i == len(messages) {
			i = 0
			block.Reset()
		}
		in, err := decoder.Decode(subjects[i], messages[i], now)
		if err != nil {
			b.Fatal(err)
		}
		block.Append(in, now)
		i++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*flows), "ns/flow")
	b.ReportMetric(float64(size)/float64(len(messages)*flows), "B/flow")
}
