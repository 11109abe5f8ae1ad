package schedule

import "github.com/prometheus/client_golang/prometheus"

// Metrics are what an operator watches. Those by detector have the label
// detector, those by kind the label kind.
type Metrics struct {
	Windows, Errors, Skipped, Findings *prometheus.CounterVec
	Lag                                *prometheus.GaugeVec
	Seconds                            *prometheus.HistogramVec
	KeepErrors                         prometheus.Counter
	Watermark, Leader                  prometheus.Gauge
	Late                               *prometheus.GaugeVec // by agent
	LostGaps                           prometheus.Gauge
	OpenIncidents, OpenFindings        prometheus.Gauge
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	byDetector := []string{"detector"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "ebbwatch", Subsystem: "analyzer", Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "ebbwatch", Subsystem: "analyzer", Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	m := &Metrics{
		Windows:  counter("windows_total", "Windows that were looked at and whose findings are stored. If it stands still, see ebbwatch_analyzer_watermark_age_seconds and ebbwatch_analyzer_leader.", byDetector...),
		Errors:   counter("detector_errors_total", "Windows that could not be judged and are tried again. If it grows, the log says why: usually ClickHouse cannot be reached, or a query exceeds query_timeout or max_query_bytes.", byDetector...),
		Skipped:  counter("windows_skipped_total", "Windows that were older than schedule.catch_up when the analyzer came back, and were not looked at. Run `analyzer backtest` over that time to see what they hold.", byDetector...),
		Findings: counter("findings_total", "New findings by kind. A flood of one kind on ordinary days means that its detector needs other thresholds.", "kind"),
		Lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "ebbwatch", Subsystem: "analyzer", Name: "lag_seconds",
			Help: "Age of the end of the last window that a detector looked at. If it grows while the watermark age does not, the detector's queries are too slow: lengthen its step."}, byDetector),
		Seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "ebbwatch", Subsystem: "analyzer", Name: "detector_seconds",
			Help: "Time that a detector takes for one window. It must stay below the detector's step, or the detector falls behind.", Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 10)}, byDetector),
		KeepErrors:    prometheus.NewCounter(prometheus.CounterOpts{Namespace: "ebbwatch", Subsystem: "analyzer", Name: "keep_errors_total", Help: "Times that findings or incidents could not be stored or handed to reporting. They are kept in memory and tried again; the log says why."}),
		Watermark:     gauge("watermark_age_seconds", "Age of the time up to which the data of every live agent is stored. If it grows, look at the collector's lag and at agents that send late."),
		Leader:        gauge("leader", "1 while this analyzer works, 0 while another one holds the lease. If no analyzer has 1, look at the connection to NATS."),
		OpenIncidents: gauge("open_incidents", "Incidents that are open."),
		OpenFindings:  gauge("open_findings", "Findings that go on. At incidents.max_open the quietest are ended early: raise it if the detectors are right."),
	}
	m.Late = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "ebbwatch", Subsystem: "analyzer", Name: "late_agent_seconds",
		Help: "Age at receipt of the data of an agent that is late for good: the others do not wait for it, so what it sends is in windows that were looked at already. Set its clock, or look at what delays its batches."}, []string{"agent"})
	m.LostGaps = gauge("lost_gaps", "Gaps in the numbered batches of agents in the last ten minutes that were waited for in vain. Should these come yet, run `analyzer backtest` over their time. See missing_batches, and 'collector dlq list'.")
	reg.MustRegister(m.Late, m.Lag, m.Seconds, m.KeepErrors)
	return m
}
