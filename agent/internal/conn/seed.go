package conn

import (
	"net/netip"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
)

// Seed tells of a TCP connection that was open before the table was made, and
// which side opened it: the host's kernel knows. Connections that are known are
// left alone, and so is one more than there is room for. Call it after Begin.
func (t *Table) Seed(local, remote netip.AddrPort, localOpened bool) {
	e := flowbpf.Entry{A: local.Addr(), APort: local.Port(), B: remote.Addr(), BPort: remote.Port(), Proto: ebbwatch.ProtoTCP}
	src := uint8(1)
	if localOpened {
		src = 0
	}
	if order := e.A.Compare(e.B); order > 0 || order == 0 && e.APort > e.BPort {
		e.A, e.APort, e.B, e.BPort, src = e.B, e.BPort, e.A, e.APort, 1-src
	}
	if linkScoped(e.A) || linkScoped(e.B) {
		return // it is not told which interface it means
	}
	k := keyOf(&e)
	if t.slots.full() || t.slots.find(&k) != nil {
		return
	}
	c := t.slots.add(&k)
	c.firstNS, c.lastNS, c.src, c.from, c.initiator, c.seeded, c.fresh = t.startNS, t.clock.MonoNS, src, src, ebbwatch.InitiatorSocket, true, true
	c.state = ebbwatch.StateOTH
}
