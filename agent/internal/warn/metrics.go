package warn

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	warnings, errors, crowded, merged prometheus.Counter
	sources                           prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_" + name, Help: help})
	}
	m := &metrics{
		warnings: counter("warnings_total", "Early warnings made, at most one each warning.interval; seconds without a packet make none."),
		errors:   counter("warning_errors_total", "Early warnings that lack what the kernel did not let the agent read. Look at the log for its reason."),
		crowded:  counter("crowded_flows_total", "Flows and packets of overflow whose sender found no room of its own: their sources are told as one. Raise datapath.max_sources."),
		merged:   counter("merged_sources_total", "Sources with overflow that were told as one because a batch names 1,000. In a flood from many addresses this is normal; else raise datapath.max_flows."),
		sources: prometheus.NewGauge(prometheus.GaugeOpts{Name: "ebbwatch_agent_sources",
			Help: "Senders of the last drain interval that needed a flow entry; bounded by datapath.max_sources."}),
	}
	reg.MustRegister(m.warnings, m.errors, m.crowded, m.merged, m.sources)
	return m
}
