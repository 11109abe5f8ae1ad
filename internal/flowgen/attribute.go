package flowgen

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"

	"github.com/ebbwatch/ebbwatch"
)

// process is a program that runs on an agent's host for long.
type process struct {
	owner ebbwatch.Owner
	netns string // of its container
	tls   uint64 // which of the fingerprints is that of its TLS library
}

// programs by how often they talk.
var programs = []struct {
	name, unit string
	uid        uint32
	weight     int
	contained  bool // in a container on hosts that have them
}{
	{"nginx", "nginx.service", 33, 25, true}, {"java", "app.service", 1001, 20, true}, {"systemd-resolve", "systemd-resolved.service", 101, 20, false},
	{"postgres", "postgresql.service", 999, 8, true}, {"redis-server", "redis.service", 998, 6, true}, {"python3", "worker.service", 1001, 9, true},
	{"node_exporter", "node_exporter.service", 997, 4, false}, {"chronyd", "chrony.service", 105, 2, false}, {"sshd", "ssh.service", 0, 2, false},
	{"curl", "session-4.scope", 1000, 4, false},
}

// processes returns the programs of one host, of which every third runs containers.
func processes(rnd *rand.Rand, host int) []process {
	var all []process
	for _, p := range programs {
		one := process{owner: ebbwatch.Owner{PID: 300 + rnd.Uint32N(60_000), UID: p.uid, Process: p.name, Unit: p.unit}, tls: rnd.Uint64N(60)}
		if p.contained && host%3 == 0 {
			one.owner.Unit = ""
			one.owner.Container = fmt.Sprintf("%016x%016x%016x%016x", rnd.Uint64(), rnd.Uint64(), rnd.Uint64(), rnd.Uint64())
			one.owner.Pod = uuid(rnd)
			one.netns = fmt.Sprintf("cni-%08x", rnd.Uint32())
		}
		for range p.weight {
			all = append(all, one)
		}
	}
	return all
}

// owner says that p stands behind the local side, which is known for nine in ten.
func (f *Fleet) owner(flow *ebbwatch.Flow, a *agent, p *process, isServer bool) {
	if f.rnd.IntN(10) == 0 || flow.Proto == ebbwatch.ProtoICMP || flow.Proto == ebbwatch.ProtoICMPv6 {
		return
	}
	o := p.owner
	if o.Process == "curl" { // is started anew each time
		o.PID += f.rnd.Uint32N(4000)
	}
	if p.netns != "" { // seen inside, on the bridge's side, and on the way out
		flow.NetNS, flow.Interface, flow.Interfaces = p.netns, a.interfaces[1], a.interfaces[1]+" cni0 "+a.interfaces[0]
	}
	if isServer {
		flow.DstOwner = o
	} else {
		flow.SrcOwner = o
	}
}

// hint adds what the beginning of a conversation tells.
func (f *Fleet) hint(flow *ebbwatch.Flow, a *agent, p *process, peer netip.Addr) {
	if flow.AgeMS > 0 || flow.DstPackets == 0 || flow.ConnState == ebbwatch.StateREJ || f.rnd.IntN(20) == 0 {
		return
	}
	h := &flow.Hint
	switch {
	case flow.DstPort == 53:
		*h = ebbwatch.Hint{App: ebbwatch.AppDNS, ServerName: f.lookup(a), DNSType: "A", DNSRcode: "NOERROR", DNSAnswers: 1 + f.rnd.Uint32N(4), LatencyUS: f.around(1500)}
		if f.rnd.IntN(3) == 0 {
			h.DNSType = "AAAA"
		}
		if f.rnd.IntN(12) == 0 {
			h.DNSRcode, h.DNSAnswers = "NXDOMAIN", 0
		}
	case flow.DstPort == 443 && flow.Proto == ebbwatch.ProtoUDP:
		*h = ebbwatch.Hint{App: ebbwatch.AppQUIC, ServerName: f.nameOf(peer), QUICVersion: "1", TLSALPN: "h3", TLSJA4: f.ja4[p.tls], LatencyUS: f.around(9000)}
	case flow.DstPort == 443:
		*h = ebbwatch.Hint{App: ebbwatch.AppTLS, ServerName: f.nameOf(peer), TLSALPN: "h2", TLSJA4: f.ja4[p.tls], LatencyUS: f.around(12_000)}
		if f.rnd.IntN(4) == 0 {
			h.TLSALPN = "http/1.1"
		}
	case flow.DstPort == 80 || flow.DstPort == 8080:
		*h = ebbwatch.Hint{App: ebbwatch.AppHTTP, ServerName: f.nameOf(peer), HTTPMethod: "GET", HTTPStatus: 200, LatencyUS: f.around(25_000)}
		if f.rnd.IntN(5) == 0 {
			h.HTTPMethod = "POST"
		}
		if f.rnd.IntN(15) == 0 {
			h.HTTPStatus = []uint32{301, 304, 404, 500, 503}[f.rnd.IntN(5)]
		}
	}
}

// health adds round-trip times to most TCP records and trouble to few.
func (f *Fleet) health(flow *ebbwatch.Flow, peer netip.Addr) {
	if flow.Proto == ebbwatch.ProtoTCP && flow.DstFlags&ebbwatch.FlagSYN != 0 {
		base := float64(200 + 400*uint32(peer.As16()[13])) // each peer is somewhere
		if flow.AgeMS == 0 {
			flow.HandshakeUS = f.around(base)
		}
		flow.RTTUS = f.around(base)
	}
	if flow.SrcFlags&ebbwatch.FlagRST != 0 {
		flow.SrcHealth.Resets = 1
	}
	if flow.DstFlags&ebbwatch.FlagRST != 0 {
		flow.DstHealth.Resets = 1
	}
	switch r := f.rnd.IntN(1000); {
	case flow.Proto != ebbwatch.ProtoTCP:
	case r < 20:
		flow.DstHealth.Retransmits = 1 + f.rnd.Uint32N(4)
	case r < 35 || flow.ConnState == ebbwatch.StateS0:
		flow.SrcHealth.Retransmits = 1 + f.rnd.Uint32N(2)
	case r < 38:
		flow.SrcHealth.ZeroWindows = 1 + f.rnd.Uint32N(3)
	case r < 40:
		flow.DstHealth.Drops, flow.DropReason = 1+f.rnd.Uint32N(5), []string{"NETFILTER_DROP", "TCP_CSUM", "SOCKET_RCVBUFF"}[f.rnd.IntN(3)]
	}
}

// around returns a value of which median is the median and that varies by half.
func (f *Fleet) around(median float64) uint32 {
	return uint32(median * math.Exp(f.rnd.NormFloat64()*0.5))
}

// lookup returns a name that a host asks for: mostly one of those that it always needs.
func (f *Fleet) lookup(a *agent) string {
	if f.rnd.IntN(5) == 0 {
		return f.names[f.zipf.Uint64()]
	}
	return f.names[(a.boot[0]+a.boot[1]*31)^byte(f.rnd.IntN(24))]
}

// nameOf returns a server's name: a host often has one, and sometimes a few.
func (f *Fleet) nameOf(peer netip.Addr) string {
	b := peer.As16()
	n := uint64(b[12])<<24 | uint64(b[13])<<16 | uint64(b[14])<<8 | uint64(b[15])
	return f.names[(n*0x9e3779b1+uint64(max(0, f.rnd.IntN(10)-7)))%uint64(len(f.names))]
}

// makeNames fills in names as the fleet meets them: services of a few companies,
// shards of content networks.
func (f *Fleet) makeNames() {
	words := []string{"api", "cdn", "static", "login", "mail", "img", "auth", "events", "metrics", "files", "search", "push"}
	companies := make([]string, 300)
	for i := range companies {
		companies[i] = fmt.Sprintf("%s%s.example", []string{"north", "blue", "open", "fast", "green", "data"}[f.rnd.IntN(6)], fmt.Sprintf("%x", f.rnd.IntN(4096)))
	}
	for i := range 4096 {
		name := words[f.rnd.IntN(len(words))] + "." + companies[f.rnd.IntN(len(companies))]
		if i%3 == 0 {
			name = fmt.Sprintf("edge-%x.%s", f.rnd.Uint32N(1<<20), name)
		}
		f.names = append(f.names, name)
	}
	for range 60 {
		f.ja4 = append(f.ja4, fmt.Sprintf("t13d%02d%02dh2_%012x_%012x", 10+f.rnd.IntN(30), 8+f.rnd.IntN(10), f.rnd.Uint64()>>16, f.rnd.Uint64()>>16))
	}
}
