package probe

import "github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"

// choose returns the names of the interfaces that cfg wants. Those that are up
// count, and those that are attached already: an interface that goes down and up
// again is not to lose its first packets.
func choose(cfg *Config, list []device, attached func(flowbpf.Place) bool) map[flowbpf.Place]string {
	candidates := make(map[flowbpf.Place]*device)
	for i := range list {
		d := &list[i]
		if !d.up && !attached(d.place) || matches(cfg.Exclude, d.name) || len(cfg.Include) > 0 && !matches(cfg.Include, d.name) {
			continue
		}
		if len(cfg.Include) == 0 && d.loopback {
			continue
		}
		candidates[d.place] = d
	}
	ports := make(map[flowbpf.Place]bool) // has candidates as ports
	for _, d := range candidates {
		ports[d.master] = true
	}
	chosen := make(map[flowbpf.Place]string, len(candidates))
	for place, d := range candidates {
		if len(cfg.Include) > 0 || !redundant(d, candidates, ports[place]) {
			chosen[place] = d.name
		}
	}
	return chosen
}

// redundant reports whether all packets of d pass another candidate. Of a bond
// the ports are redundant: a conversation's two directions can take two of them,
// the bond has both.
func redundant(d *device, candidates map[flowbpf.Place]*device, hasPorts bool) bool {
	if m := candidates[d.master]; m != nil && m.is(bundles) {
		return true
	}
	if hasPorts && (d.is(switches) || d.is(views)) {
		return true
	}
	if d.is(stacked) && candidates[d.lower] != nil {
		return true
	}
	// Of a pair between namespaces the end that is nearer to the agent stays.
	return candidates[d.peer] != nil && d.peer.NetNS < d.place.NetNS
}
