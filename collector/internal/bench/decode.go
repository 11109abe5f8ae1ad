package main

import (
	"syscall"
	"time"

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

// messages returns realistic batches with the given number of flows in all,
// the last of which ends now.
func messages(flows, agents int) ([]message, error) {
	const interval = 5 * time.Second
	n := flows / flowsPerBatch
	start := time.Now().Add(-interval * time.Duration(n) / time.Duration(agents))
	fleet := flowgen.New(1, agents, start, interval)
	encoder, err := ebbwatch.NewEncoder()
	if err != nil {
		return nil, err
	}
	all := make([]message, n)
	var b ebbwatch.Batch
	for i := range all {
		fleet.Next(&b, flowsPerBatch)
		data, err := encoder.Encode(nil, &b)
		if err != nil {
			return nil, err
		}
		all[i] = message{ebbwatch.FlowSubject(b.Agent), b.MessageID(), data}
	}
	return all, nil
}

// decodeAppend measures decoding, checking and appending to the columns of an
// insert: the median of 15 rounds over 200,000 flows, after one that warms up,
// in processor time of this process, garbage collection included, so that a busy
// host does not count.
func decodeAppend() (map[string]float64, error) {
	all, err := messages(200_000, 1000)
	if err != nil {
		return nil, err
	}
	decoder, err := batch.NewDecoder(batch.Limits{MaxAhead: time.Hour, MaxAge: time.Hour})
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	block, now := sink.NewBlock(), time.Now()
	var rounds []float64
	for round := range 16 {
		block.Reset()
		started := cpuTime()
		for i := range all {
			b, err := decoder.Decode(all[i].subject, all[i].data, now)
			if err != nil {
				return nil, err
			}
			block.Append(b, now)
		}
		if round > 0 {
			rounds = append(rounds, float64((cpuTime()-started).Nanoseconds())/float64(block.Rows()))
		}
	}
	return map[string]float64{"decode_append_ns_per_flow": median(rounds)}, nil
}

// cpuTime returns the processor time that this process has used.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // only for a wrong argument
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
