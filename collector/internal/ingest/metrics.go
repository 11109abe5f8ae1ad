package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
)

// Metrics are the counters of ingestion.
type Metrics struct {
	batches, bytes   prometheus.Counter
	refused          *prometheus.CounterVec
	deadLetterErrors prometheus.Counter
	lettersDropped   prometheus.Counter
	lettersStored    prometheus.Counter
	letters          prometheus.Gauge
	letterBytes      prometheus.Gauge
	redelivered      prometheus.Counter
	copies, looked   prometheus.Counter
	settled          prometheus.Counter
	takenBack        prometheus.Counter
	sessions         prometheus.Counter
	blockSeconds     prometheus.Histogram
	lag, lagBytes    prometheus.Gauge
	oldest           prometheus.Gauge
	shards           prometheus.Gauge

	mu     sync.Mutex
	warned time.Time
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_collector_" + name, Help: help})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: "ebbwatch_collector_" + name, Help: help})
}

// NewMetrics registers the counters with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		lag:              gauge("lag_batches", "Batches in NATS that are not stored yet. If it grows, inserts are slower than the agents: look at ebbwatch_collector_insert_seconds."),
		lagBytes:         gauge("lag_bytes", "Bytes of the batches in NATS that are not stored yet. Near streams.flow_max_bytes NATS refuses new batches and the agents keep them: make ClickHouse faster, or raise it."),
		oldest:           gauge("oldest_batch_seconds", "Age of the oldest batch that is not stored yet. Above a minute, findings come late by as much: look at ebbwatch_collector_insert_retries_total."),
		shards:           gauge("shards_held", "Shards of the stream that this collector reads (streams.shards, divided by the collectors that run). If the sum over all collectors is not streams.shards for longer than streams.standby, read the logs."),
		batches:          counter("stored_batches_total", "Batches stored and acknowledged. If it stands still while the lag grows, look at the log."),
		bytes:            counter("stored_batch_bytes_total", "Bytes of the batches stored, as received. Compare with the rows inserted to see what a flow costs on the wire."),
		deadLetterErrors: counter("dead_letter_errors_total", "Refused batches that could not be written to the dead letters and stay in their stream for now. Check the state of JetStream (disk, limits)."),
		lettersDropped:   counter("dead_letters_dropped_total", "Dead letters that gave way to newer ones, because the stream is full: oldest first, of the agent that has the most bytes there. Find out who floods it (collector dlq list); replay or drop letters, or raise streams.dead_letter_max_bytes."),
		lettersStored:    counter("dead_letters_stored_total", "Dead letters that were replayed and are stored now. Those that a replay leaves were refused again, see 'collector dlq list'."),
		letters:          gauge("dead_letters_kept", "Refused batches in the dead letters, as they wait for somebody: see 'collector dlq list', then replay or drop them."),
		letterBytes:      gauge("dead_letters_kept_bytes", "Bytes of the dead letters. At streams.dead_letter_max_bytes the oldest of the largest sender give way: replay or drop letters before that."),
		redelivered:      counter("redelivered_batches_total", "Batches that came again although they are stored or about to be; they are not stored twice. If it grows steadily, raise streams.ack_wait above the time of an insert."),
		copies:           counter("duplicate_batches_total", "Batches that agents sent again although they are stored; they are not stored twice. Expected after an outage of NATS that outlasts streams.duplicate_window; otherwise find out why agents get no acknowledgement."),
		looked:           counter("looked_up_batches_total", "Batches that came with a number below one that their agent has stored, so that table coverage was asked about them. If it grows steadily, look for two agents of one name, or for an agent whose spool cannot be written."),
		settled:          counter("settled_intents_total", "Inserts that an earlier run or another collector left unfinished and that were repeated under their token. Expected after a crash; otherwise find out why collectors stop."),
		takenBack:        counter("taken_back_batches_total", "Batches that another session had received and not acknowledged, and that were read at once instead of after streams.ack_wait. Expected after a crash or a lost connection; otherwise find out why collectors stop."),
		sessions:         counter("sessions_lost_total", "Times that ingestion started over: NATS lost the consumer, or another collector took over. If it grows, give collectors time (streams.standby) or look at NATS."),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebbwatch_collector_dead_letters_total",
			Help: "Batches refused, by reason; they are kept in the dead letters. See 'collector dlq list'. future: set the agent's clock. version: update the collector. forged_agent: an agent uses another's credentials.",
		}, []string{"reason"}),
		blockSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ebbwatch_collector_block_seconds",
			Help:    "Seconds from a block's first batch to its commit. Well above ingest.block_age, the insert is the bottleneck.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 12),
		}),
	}
	for _, r := range batch.Reasons() {
		m.refused.WithLabelValues(string(r))
	}
	reg.MustRegister(m.shards, m.lag, m.lagBytes, m.oldest, m.batches, m.bytes, m.refused, m.deadLetterErrors, m.lettersDropped, m.lettersStored, m.letters, m.letterBytes, m.redelivered, m.copies, m.looked, m.settled, m.takenBack, m.sessions, m.blockSeconds)
	return m
}

// mayWarn reports, at most once in 10 seconds, that a warning that traffic
// drives may be logged.
func (m *Metrics) mayWarn() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.warned) < 10*time.Second {
		return false
	}
	m.warned = time.Now()
	return true
}

// Watch keeps the lag up to date until ctx ends.
func (m *Metrics) Watch(ctx context.Context, js jetstream.JetStream) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		m.observe(ctx, js)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// observe reads the stream's state. While NATS does not answer the values stay,
// and /healthz says so.
func (m *Metrics) observe(ctx context.Context, js jetstream.JetStream) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if letters, err := js.Stream(ctx, ebbwatch.DeadLetterStream); err == nil {
		state := letters.CachedInfo().State
		m.letters.Set(float64(state.Msgs))
		m.letterBytes.Set(float64(state.Bytes))
	}
	stream, err := js.Stream(ctx, ebbwatch.FlowStream)
	if err != nil {
		return
	}
	state := stream.CachedInfo().State
	m.lag.Set(float64(state.Msgs))
	m.lagBytes.Set(float64(state.Bytes))
	age := 0.0
	if state.Msgs > 0 {
		age = time.Since(state.FirstTime).Seconds()
	}
	m.oldest.Set(age)
}
