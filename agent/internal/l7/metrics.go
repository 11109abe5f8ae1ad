package l7

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what beginnings told. Its methods are safe for concurrent use.
type Metrics struct {
	hints      [AppQUIC + 1]prometheus.Counter
	flaws      [AppQUIC + 1][Flaws]prometheus.Counter
	mismatched prometheus.Counter
}

// NewMetrics registers the metrics of hints with reg. One reg has them once.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	hints := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ebbwatch_agent_hint_beginnings_total",
		Help: "Beginnings of payload that were read, by the application they are of; none is every other protocol."}, []string{"app"})
	flaws := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ebbwatch_agent_hint_flaws_total",
		Help: "Beginnings that told less than they should, by application and flaw. truncated: the message goes on beyond what is captured, in one piece or several; a few are normal, for many see docs/hints.md on long ClientHellos. malformed, oversized: against the protocol's rules; look at who sends them, since scanners and evasion look like this. name: a server name that is no host name was left out."}, []string{"app", "flaw"})
	m := &Metrics{mismatched: prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_hint_mismatches_total",
		Help: "Responses that did not answer the request of their conversation, of which nothing was taken. Many for DNS: a source port that is used again for several queries, or forged answers."})}
	for app := AppNone; app <= AppQUIC; app++ {
		m.hints[app] = hints.WithLabelValues(cmp.Or(app.String(), "none"))
		for f := FlawTruncated; f < Flaws && app != AppNone; f++ {
			m.flaws[app][f] = flaws.WithLabelValues(app.String(), f.String())
		}
	}
	reg.MustRegister(hints, flaws, m.mismatched)
	return m
}

// Hint counts one message.
func (m *Metrics) Hint(h *Hint) {
	m.hints[h.App].Inc()
	if h.Flaw != FlawNone {
		m.flaws[h.FlawIn][h.Flaw].Inc()
	}
}

// Exchange counts a pair.
func (m *Metrics) Exchange(e *Exchange) {
	if e.Mismatched {
		m.mismatched.Inc()
	}
}
