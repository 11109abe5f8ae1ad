package owner

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/losstest"
)

// The datapath's entries have the owners of both sides, sender and receiver.
func TestEntriesOfTheDatapathHaveTheOwnersOfBothSides(t *testing.T) {
	losstest.Namespace(t)
	cfg := flowbpf.DefaultConfig()
	cfg.MaxFlows = 1000
	d, err := flowbpf.Load(cfg, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	w := Open(d.Sockets(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() { must(t, w.Close()) })
	losstest.Need(t, w.features[0].Err == nil, fmt.Sprintf("%s: %v", w.features[0].Name, w.features[0].Err))
	must(t, d.Attach(flowbpf.Place{Ifindex: losstest.Loopback}, 0))
	for _, proto := range []string{"tcp", "udp"} {
		for _, address := range []string{"127.0.0.1", "[::1]"} {
			server := start(t, "ebb"+proto+"server", proto+"server", address+":0", nil)
			client := start(t, "ebb"+proto+"client", proto, fmt.Sprintf("%s:%d", address, server.port), nil)
			client.wait(t)
			time.Sleep(20 * time.Millisecond)
			pids := make(map[uint16]uint32)
			_, err := d.Drain(func(entries []flowbpf.Entry) { // one for each CPU that saw packets
				for _, e := range entries {
					for side, port := range []uint16{e.APort, e.BPort} {
						pids[port] = max(pids[port], e.Side[side].PID)
					}
				}
			})
			must(t, err)
			for _, end := range []*actor{server, client} {
				if o, ok := w.Owner(pids[end.port]); !ok || o.PID != end.pid() {
					t.Errorf("%s to %s: port %d belongs to %+v, want process %d", proto, address, end.port, o, end.pid())
				}
			}
		}
	}
}
