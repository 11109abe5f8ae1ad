package main

import (
	"syscall"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
	"github.com/ebbwatch/ebbwatch/internal/flowgen"
)

const flowsPerBatch = 100

// message is one batch as an agent publishes it.
type message struct {
	subject, id string
	data        []byte
}

// messages returns batches with the given number of flows in all, the last of
// which ends now. next fills in one batch: (*flowgen.Fleet).Next makes realistic ones.
func messages(flows, agents int, next func(f *flowgen.Fleet, b *ebbwatch.Batch, n int)) ([]message, error) {
	const interval = 5 * time.Second
	n := flows / flowsPerBatch
	start := time.Now().Add(-interval * time.Duration(n) / time.Duration(agents))
	fleet := flowgen.New(1, agents, start, interval)
	var encoder ebbwatch.Encoder
	all := make([]message, n)
	var b ebbwatch.Batch
	for i := range all {
		next(fleet, &b, flowsPerBatch)
		data, err := encoder.Encode(nil, &b)
		if err != nil {
			return nil, err
		}
		all[i] = message{ebbwatch.FlowSubject(b.Agent), b.MessageID(), data}
	}
	return all, nil
}

// decodeAppend measures decoding and checking, appending to a block, and making
// the columns of an insert of it: medians of 15 rounds over 200,000 flows, after
// one that warms up, in processor time of this process, garbage collection
// included, so that a busy host does not count. It does so with the records of a
// fleet, and with records that have a value in every column.
func decodeAppend() (map[string]float64, error) {
	values := make(map[string]float64)
	for suffix, next := range map[string]func(*flowgen.Fleet, *ebbwatch.Batch, int){"": (*flowgen.Fleet).Next, "_all_columns": (*flowgen.Fleet).NextFull} {
		all, err := messages(200_000, 1000, next)
		if err != nil {
			return nil, err
		}
		ns, encode, err := decodeRounds(all)
		if err != nil {
			return nil, err
		}
		size := 0
		for i := range all {
			size += len(all[i].data)
		}
		values["decode_append"+suffix+"_ns_per_flow"] = ns
		values["encode_insert"+suffix+"_ns_per_flow"] = encode
		values["message"+suffix+"_bytes_per_flow"] = float64(size) / float64(len(all)*flowsPerBatch)
	}
	return values, nil
}

// decodeRounds returns what it takes for a flow from the message into the block,
// and from there to the bytes of an insert.
func decodeRounds(all []message) (decode, encode float64, err error) {
	w := way{decoder: batch.NewDecoder(batch.Limits{MaxAhead: time.Hour, MaxAge: time.Hour}), block: sink.NewBlock()}
	for range 16 {
		if err := w.round(all); err != nil {
			return 0, 0, err
		}
	}
	return median(w.decodes[1:]), median(w.encodes[1:]), nil
}

// way is that of messages into a block and to the bytes of an insert.
type way struct {
	decoder          *batch.Decoder
	block            *sink.Block
	buffer           proto.Buffer
	decodes, encodes []float64 // ns a flow of each round
}

func (w *way) round(all []message) error {
	now := time.Now()
	w.block.Reset()
	started := cpuTime()
	for i := range all {
		b, err := w.decoder.Decode(all[i].subject, all[i].data, now)
		if err != nil {
			return err
		}
		w.block.Append(b, now)
	}
	appended := cpuTime()
	w.buffer.Reset()
	if err := w.block.EncodeFlows(&w.buffer); err != nil {
		return err
	}
	perFlow := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(w.block.Rows()) }
	w.decodes, w.encodes = append(w.decodes, perFlow(appended-started)), append(w.encodes, perFlow(cpuTime()-appended))
	return nil
}

// cpuTime returns the processor time that this process has used.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // only for a wrong argument
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
