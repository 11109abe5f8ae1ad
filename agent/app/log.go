package app

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/agent/internal/loglimit"
)

// registerLog registers how much of the log was suppressed.
func registerLog(reg prometheus.Registerer, log *slog.Logger) {
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ebbwatch_agent_log_suppressed_total",
		Help: "Log records left out because the same message came too often: 20 at once, then one every 10 s. Look at what the log repeats; each such record says how many it stands for."},
		func() float64 {
			if limit, ok := log.Handler().(*loglimit.Handler); ok {
				return float64(limit.Suppressed())
			}
			return 0
		}))
}
