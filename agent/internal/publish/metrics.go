package publish

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/agent/internal/spool"
)

type metrics struct {
	encodedFlows, encodedBytes, encodeFailed prometheus.Counter
	published, duplicates, known             prometheus.Counter
	refused, unsent                          prometheus.Counter
	failed                                   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, q *queue, disk func() spool.Stats, cfg spool.Config) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_" + name, Help: help})
	}
	m := &metrics{
		encodedFlows: counter("encoded_flows_total", "Flow records put into batches."),
		encodedBytes: counter("encoded_bytes_total", "Bytes of encoded batches; divided by encoded_flows_total, what a flow costs on the wire."),
		encodeFailed: counter("encode_failed_batches_total", "Batches that broke the contract and were lost. Should stay 0: report it as a bug with the agent's log."),
		published:    counter("published_batches_total", "Batches that JetStream acknowledged."),
		duplicates:   counter("published_duplicates_total", "Acknowledged batches that JetStream had stored already: an earlier acknowledgement was lost on the way. Harmless."),
		known:        counter("found_stored_batches_total", "Batches whose acknowledgement was lost in an outage and that the stream, when asked, had stored: not published again. Harmless."),
		refused:      counter("refused_batches_total", "Batches that NATS will never take and that are lost: larger than its max_payload, or the stream's max_msg_size. Raise those to 1 MiB and 4 KiB."),
		unsent:       counter("shutdown_lost_batches_total", "Batches lost because NATS was away and no spool usable when the agent ended. Set spool.dir, stop the agent before NATS, or give it longer with flush_timeout."),
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
	reg.MustRegister(m.encodedFlows, m.encodedBytes, m.encodeFailed, m.published, m.duplicates, m.known, m.refused, m.unsent, m.failed,
		gauge("queue_batches", "Batches that wait for delivery in memory. Grows while NATS or the stream is away and the spool cannot be used.", func() float64 {
			n, _, _ := q.size()
			return float64(n)
		}),
		gauge("queue_bytes", "Bytes of the batches that wait; the oldest are dropped beyond queue_max_bytes.", func() float64 {
			_, bytes, _ := q.size()
			return float64(bytes)
		}),
		gauge("queue_max_bytes", "Configured limit of queue_bytes.", func() float64 { return float64(q.maxBytes) }),
		total("queue_dropped_batches_total", "Batches dropped because the queue was full. Mend the spool (look at spool_usable), bring NATS or the collector back, or raise queue_max_bytes.", func(l Lost) uint64 { return l.Batches }),
		total("queue_dropped_flows_total", "Flow records in the dropped batches.", func(l Lost) uint64 { return l.Flows }),
		total("queue_dropped_bytes_total", "Bytes of the dropped batches.", func(l Lost) uint64 { return l.Bytes }),
	)
	registerSpool(reg, disk, cfg)
	return m
}

// registerSpool registers what the spool tells; without one, it is all zero.
func registerSpool(reg prometheus.Registerer, disk func() spool.Stats, cfg spool.Config) {
	gauge := func(name, help string, value func(spool.Stats) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ebbwatch_agent_spool_" + name, Help: help}, func() float64 { return value(disk()) }))
	}
	counter := func(name, help string, value func(spool.Stats) uint64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ebbwatch_agent_spool_" + name + "_total", Help: help}, func() float64 { return float64(value(disk())) }))
	}
	const damaged = " that the disk gave back damaged, and that are lost: a few after a crash are torn ends; more, check the disk."
	gauge("usable", "1 if batches can wait on disk, 0 if only in memory: look at the log and /healthz for the reason (spool.dir).", func(st spool.Stats) float64 {
		if st.Usable {
			return 1
		}
		return 0
	})
	gauge("batches", "Batches that wait on disk. Grows while NATS, the stream or the collector is away.", func(st spool.Stats) float64 { return float64(st.Waiting.Batches) })
	gauge("flows", "Flow records in the batches that wait on disk.", func(st spool.Stats) float64 { return float64(st.Waiting.Flows) })
	gauge("file_bytes", "Size of the spool's files. The oldest batches are dropped beyond spool_max_bytes: bring NATS or the collector back before.", func(st spool.Stats) float64 { return float64(st.FileBytes) })
	gauge("max_bytes", "Configured limit of spool_file_bytes.", func(spool.Stats) float64 {
		if cfg.Dir == "" {
			return 0
		}
		return float64(cfg.MaxBytes)
	})
	counter("written_batches", "Batches written to disk because NATS did not take them at once.", func(st spool.Stats) uint64 { return st.Written.Batches })
	counter("dropped_batches", "Batches dropped because the spool was full. Bring NATS or the collector back, or raise spool.max_bytes.", func(st spool.Stats) uint64 { return st.Dropped.Batches })
	counter("dropped_flows", "Flow records in the batches that the spool dropped.", func(st spool.Stats) uint64 { return st.Dropped.Flows })
	counter("dropped_bytes", "Bytes of the batches that the spool dropped.", func(st spool.Stats) uint64 { return st.Dropped.Bytes })
	counter("damaged_batches", "Batches, at least,"+damaged, func(st spool.Stats) uint64 { return st.Damaged.Batches })
	counter("damaged_flows", "Flow records, at least,"+damaged, func(st spool.Stats) uint64 { return st.Damaged.Flows })
	counter("damaged_bytes", "Bytes of the spool"+damaged, func(st spool.Stats) uint64 { return st.Damaged.Bytes })
	gauge("foreign_files", "Files in spool.dir that are not the spool's. They are left alone: move them away.", func(st spool.Stats) float64 { return float64(st.Foreign) })
	counter("errors", "Failed operations of the file system on the spool. Look at the log for the reason: no room, no permission, a broken disk.", func(st spool.Stats) uint64 { return st.Errors })
}
