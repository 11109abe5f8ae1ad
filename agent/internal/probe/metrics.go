package probe

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	attachFailures, overflows prometheus.Counter
	namespaces, refusedSpaces prometheus.Gauge
	refused                   prometheus.Gauge
	perSpace                  *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, watched func() float64) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "ebbwatch_agent_" + name, Help: help})
	}
	m := &metrics{
		attachFailures: counter("attach_failures_total",
			"Failed attempts to attach to an interface; retried every 30 s. Look at the log for the kernel's reason, or exclude the interface."),
		overflows: counter("link_overflows_total",
			"Times that the kernel had no room to tell of changed interfaces. All are looked at then: nothing to do unless it grows all the time."),
		namespaces: gauge("namespaces", "Network namespaces looked at now beside the agent's own (interfaces.namespaces)."),
		refusedSpaces: gauge("namespaces_refused",
			"Network namespaces that are there and not looked at: beyond interfaces.max_namespaces, or they cannot be entered. Raise it, or look at the log for the reason."),
		refused: gauge("interfaces_refused",
			"Interfaces that are wanted and not watched now: their attachment failed, or they are beyond datapath.max_interfaces. Raise that, exclude some, or look at the log."),
		perSpace: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "ebbwatch_agent_namespace_interfaces",
			Help: `Interfaces watched now, by network namespace; "" is the agent's own.`}, []string{"netns"}),
	}
	reg.MustRegister(m.attachFailures, m.overflows, m.namespaces, m.refusedSpaces, m.refused, m.perSpace,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ebbwatch_agent_interfaces",
			Help: "Interfaces watched now. 0 means that the agent sees nothing: check interfaces.include and interfaces.exclude."}, watched))
	return m
}
