package flowgen

import (
	"fmt"

	"github.com/ebbwatch/ebbwatch"
)

// NextFull is Next with a value in every column of every record, and few records
// that have the same: the most that a batch can cost.
func (f *Fleet) NextFull(b *ebbwatch.Batch, n int) {
	var plain ebbwatch.Batch
	f.Next(&plain, n)
	b.Reset()
	b.Envelope = plain.Envelope
	for i := range n {
		flow := plain.Flow(i)
		f.fill(&flow)
		b.Append(&flow)
	}
}

func (f *Fleet) fill(flow *ebbwatch.Flow) {
	some := func() uint32 { return 1 + f.rnd.Uint32N(50) }
	a := &f.agents[f.rnd.IntN(len(f.agents))]
	flow.VLAN, flow.ICMPType, flow.ICMPCode, flow.AgeMS = uint16(some()), uint8(some()), uint8(some()), 5000*some()
	flow.NetNS, flow.Interfaces = fmt.Sprintf("cni-%08x", some()), a.interfaces[1]+" cni0 "+a.interfaces[0]
	flow.Tunnel, flow.TunnelID = ebbwatch.TunnelVXLAN, some()
	flow.HandshakeUS, flow.RTTUS = f.around(9000), f.around(9000)
	for _, h := range []*ebbwatch.Health{&flow.SrcHealth, &flow.DstHealth} {
		*h = ebbwatch.Health{Retransmits: some(), ZeroWindows: some(), Resets: some(), Drops: some()}
	}
	flow.DropReason = "NETFILTER_DROP"
	for _, o := range []*ebbwatch.Owner{&flow.SrcOwner, &flow.DstOwner} {
		*o = a.processes[f.rnd.IntN(len(a.processes))].owner
		o.PID, o.Unit, o.Container, o.Pod = 300+f.rnd.Uint32N(60_000), "app.service", fmt.Sprintf("%064x", some()), fmt.Sprintf("%036x", some())
	}
	flow.Hint = ebbwatch.Hint{
		App: ebbwatch.AppTLS, ServerName: f.lookup(a), DNSType: "A", DNSRcode: "NOERROR", DNSAnswers: some(), LatencyUS: f.around(9000),
		TLSALPN: "h2", TLSJA4: f.ja4[some()], HTTPMethod: "GET", HTTPStatus: 200 + some(), QUICVersion: "1",
	}
}
