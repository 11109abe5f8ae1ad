package publish

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	encodedFlows, encodedBytes, encodeFailed prometheus.Counter
	published, duplicates, unsent            prometheus.Counter
	failed                                   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, q *queue) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_" + name, Help: help})
	}
	m := &metrics{
		encodedFlows: counter("encoded_flows_total", "Flow records put into batches."),
		encodedBytes: counter("encoded_bytes_total", "Bytes of encoded batches; divided by encoded_flows_total, what a flow costs on the wire."),
		encodeFailed: counter("encode_failed_batches_total", "Batches that broke the contract and were lost. Should stay 0: report it as a bug with the agent's log."),
		published:    counter("published_batches_total", "Batches that JetStream acknowledged."),
		duplicates:   counter("published_duplicates_total", "Acknowledged batches that JetStream had stored already: an earlier acknowledgement was lost on the way. Harmless."),
		unsent:       counter("shutdown_lost_batches_total", "Batches lost because NATS was away when the agent ended. Stop the agent before NATS, or give it longer with flush_timeout."),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ebbwatch_agent_publish_failures_total",
			Help: "Failed attempts to publish, by reason; they are retried. no_stream: start the collector. stream_full: the collector is behind or down. refused: check the agent's NATS permissions. disconnected, timeout: check NATS and the network."}, []string{"reason"}),
	}
	gauge := func(name, help string, value func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ebbwatch_agent_" + name, Help: help}, value)
	}
	total := func(name, help string, value func(Lost) uint64) prometheus.CounterFunc {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ebbwatch_agent_" + name, Help: help}, func() float64 {
			_, _, lost := q.size()
			return float64(value(lost))
		})
	}
	reg.MustRegister(m.encodedFlows, m.encodedBytes, m.encodeFailed, m.published, m.duplicates, m.unsent, m.failed,
		gauge("queue_batches", "Batches that wait for delivery in memory. Grows while NATS or the stream is away.", func() float64 {
			n, _, _ := q.size()
			return float64(n)
		}),
		gauge("queue_bytes", "Bytes of the batches that wait; the oldest are dropped beyond queue_max_bytes.", func() float64 {
			_, bytes, _ := q.size()
			return float64(bytes)
		}),
		gauge("queue_max_bytes", "Configured limit of queue_bytes.", func() float64 { return float64(q.maxBytes) }),
		total("queue_dropped_batches_total", "Batches dropped because the queue was full. Bring NATS or the collector back, or raise queue_max_bytes.", func(l Lost) uint64 { return l.Batches }),
		total("queue_dropped_flows_total", "Flow records in the dropped batches.", func(l Lost) uint64 { return l.Flows }),
	)
	return m
}
