package main

import (
	"syscall"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/flowgen"
	"github.com/ebbwatch/ebbwatch/collector/internal/sink"
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
	decoder := batch.NewDecoder(batch.Limits{MaxAhead: time.Hour, MaxAge: time.Hour})
	block, now := sink.NewBlock(), time.Now()
	var decodes, encodes []float64
	var buffer proto.Buffer
	for round := range 16 {
		block.Reset()
		started := cpuTime()
		for i := range all {
			b, err := decoder.Decode(all[i].subject, all[i].data, now)
			if err != nil {
				return 0, 0, err
			}
			block.Append(b, now)
		}
		appended := cpuTime()
		buffer.Reset()
		if err := block.EncodeFlows(&buffer); err != nil {
			return 0, 0, err
		}
		if round > 0 {
			perFlow := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(block.Rows()) }
			decodes, encodes = append(decodes, perFlow(appended-started)), append(encodes, perFlow(cpuTime()-appended))
		}
	}
	return median(decodes), median(encodes), nil
}

// cpuTime returns the processor time that this process has used.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // only for a wrong argument
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
