package drain

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

type metrics struct {
	flows                               []prometheus.Counter // by conn_state
	names                               map[[2]string]bool   // interfaces and their namespaces; true: in this drain's totals
	packets, bytes, unrecorded, unread  *prometheus.CounterVec
	runSeconds                          prometheus.Counter
	sampling                            prometheus.Gauge
	full, refused                       prometheus.Counter
	duration                            prometheus.Histogram
	lastDrain, conversations            prometheus.Gauge
	drainErrors, imbalances, clockSteps prometheus.Counter
	evicted, expired                    prometheus.Counter
	repeatedPackets, repeatedBytes      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, mapBytes func() uint64) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "ebbwatch_agent_" + name, Help: help})
	}
	perPoint := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ebbwatch_agent_" + name, Help: help}, []string{"interface", "netns", "direction", "account"})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "ebbwatch_agent_" + name, Help: help})
	}
	const accounts = " by account: seen = recorded + overflow + other + skipped, exactly. Overflow found no room in the flow map: raise datapath.max_flows or shorten drain_interval. Other is not IP or cannot be read: see unrecorded_packets_total. Skipped was left out by sampling."
	flows := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ebbwatch_agent_flows_total", Help: "Flow records made, by conn_state."}, []string{"conn_state"})
	m := &metrics{
		names:   make(map[[2]string]bool),
		packets: perPoint("packets_total", "Packets that passed an attach point,"+accounts),
		bytes:   perPoint("bytes_total", "Bytes that passed an attach point,"+accounts),
		unrecorded: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ebbwatch_agent_unrecorded_packets_total",
			Help: "Packets in no flow record, by reason. not_ip (ARP and such) is normal; truncated, bad_header and too_deep are damaged or hostile packets; unknown_link is an interface whose frames cannot be read: exclude it."}, []string{"reason"}),
		unread: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ebbwatch_agent_tunnel_unread_packets_total",
			Help: "Packets recorded as the tunnel's own flow, since the packet inside cannot be read, by reason. not_ip (ARP inside, PPTP) is normal; too_deep is more than two tunnels inside each other; bad_header and truncated are damaged or hostile, or other traffic on a tunnel's port."}, []string{"reason"}),
		runSeconds: counter("program_seconds_total", "Processor time of the BPF programs on packets, estimated from one run in 256. rate() of it is the share of one core."),
		sampling:   gauge("sampling", "Packets are counted 1 in this many; records are scaled. Above 1, the programs took more than budget.cpu_percent."),
		full:       counter("map_full_packets_total", "Packets in overflow because the flow map was full. Raise datapath.max_flows or shorten drain_interval."),
		refused:    counter("map_refused_packets_total", "Packets in overflow because the kernel refused the insert for another reason than a full map (busy, no memory). A few are harmless; many: check the memory limit of the agent's cgroup."),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ebbwatch_agent_drain_seconds",
			Help: "Time from the swap of the maps to the encoded batches. Should stay far below drain_interval.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 13)}),
		lastDrain:       gauge("last_drain_timestamp_seconds", "Time of the last drain. Alert when it is older than a few drain intervals."),
		conversations:   gauge("conversations", "Conversations remembered now; bounded by conversations.max_conversations."),
		drainErrors:     counter("drain_errors_total", "Drains that failed in part; what they could not read comes two drains later. Look at the log for the kernel's reason."),
		imbalances:      counter("imbalances_total", "Times that the accounts did not add up. Should stay 0 but for failed drains: report it as a bug with the agent's log."),
		clockSteps:      counter("clock_steps_total", "Steps of the wall clock by more than a second. Check the host's time synchronisation."),
		evicted:         counter("conversations_evicted_total", "Conversations forgotten early for want of room: their later records count as new, with unknown initiator. Raise conversations.max_conversations."),
		expired:         counter("conversations_expired_total", "Conversations forgotten because they were idle."),
		repeatedPackets: counter("repeated_packets_total", "Packets that a second interface of this host saw again, as forwarded packets are: in the totals of both, in one record."),
		repeatedBytes:   counter("repeated_bytes_total", "Bytes of those packets."),
	}
	for s := ebbwatch.StateOTH; s <= ebbwatch.StateSHR; s++ {
		m.flows = append(m.flows, flows.WithLabelValues(s.String()))
	}
	reg.MustRegister(flows, m.packets, m.bytes, m.unrecorded, m.unread, m.runSeconds, m.sampling, m.full, m.refused, m.duration, m.lastDrain, m.conversations, m.drainErrors, m.imbalances, m.clockSteps,
		m.evicted, m.expired, m.repeatedPackets, m.repeatedBytes,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ebbwatch_agent_map_bytes", Help: "Kernel memory of the BPF maps when full, in bytes. Follows datapath.max_flows."},
			func() float64 { return float64(mapBytes()) }))
	return m
}

func (m *metrics) observe(name, netns string, t *flowbpf.Totals) {
	for account, c := range map[string]flowbpf.Counters{"seen": t.Seen, "recorded": t.Recorded, "overflow": t.Overflow, "other": t.Other, "skipped": t.Skipped} {
		m.packets.WithLabelValues(name, netns, t.Direction.String(), account).Add(float64(c.Packets))
		m.bytes.WithLabelValues(name, netns, t.Direction.String(), account).Add(float64(c.Bytes))
	}
	for i, reason := range flowbpf.ReasonNames() {
		if t.Reasons[i] != 0 {
			m.unrecorded.WithLabelValues(reason).Add(float64(t.Reasons[i]))
		}
		if t.Unread[i] != 0 {
			m.unread.WithLabelValues(reason).Add(float64(t.Unread[i]))
		}
	}
	m.runSeconds.Add(float64(t.RunNS) / 1e9)
	m.sampling.Set(float64(t.Sampling))
	m.names[[2]string{name, netns}] = true
	m.full.Add(float64(t.Full))
	m.refused.Add(float64(t.Refused))
}

// forget drops the series of interfaces that were not in this drain's totals:
// hosts with containers make new names all the time.
func (m *metrics) forget() {
	for name, present := range m.names {
		if present {
			m.names[name] = false
			continue
		}
		delete(m.names, name)
		m.packets.DeletePartialMatch(prometheus.Labels{"interface": name[0], "netns": name[1]})
		m.bytes.DeletePartialMatch(prometheus.Labels{"interface": name[0], "netns": name[1]})
	}
}

func (m *metrics) table(now, before conn.Stats) {
	m.conversations.Set(float64(now.Conversations))
	m.evicted.Add(float64(now.Evicted - before.Evicted))
	m.expired.Add(float64(now.Expired - before.Expired))
	m.repeatedPackets.Add(float64(now.Repeated.Packets - before.Repeated.Packets))
	m.repeatedBytes.Add(float64(now.Repeated.Bytes - before.Repeated.Bytes))
}
