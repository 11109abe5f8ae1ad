package flowbpf

import (
	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
)

// RegisterFeatures shows as a metric which optional features work.
func RegisterFeatures(reg prometheus.Registerer, features ...Feature) {
	works := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "ebbwatch_agent_feature",
		Help: "1 if the feature works on this host, 0 if it is off; the log of the agent's start and its doctor command say why, and what to do.",
	}, []string{"name"})
	reg.MustRegister(works)
	for _, f := range features {
		value := 0.0
		if f.Err == nil {
			value = 1
		}
		works.WithLabelValues(f.Name).Set(value)
	}
}

// Sockets returns the map from a socket to its owner, which package owner fills.
func (d *Datapath) Sockets() *ebpf.Map { return d.objs.EbbSockets }
