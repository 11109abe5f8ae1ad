package replay

import (
	"path/filepath"
	"slices"
	"testing"
)

// longestLull is the longest silence of a conversation that is compared: after
// a minute one that is not established is forgotten, and the next segment
// begins another.
const longestLull = 60e6 // microseconds

// handshakeError is how much a handshake may differ: the datapath's event times
// are in units of 1.024 µs.
const handshakeError = 2 // microseconds

// retransmissionsThatDiffer are conversations, by capture, whose retransmissions
// tshark counts otherwise, each with its reason in docs/replay.md.
func retransmissionsThatDiffer() map[string]map[string]string {
	const away = "203.0.113.94 80 proto 6"
	retries := map[string]string{}
	for _, port := range []string{"64862", "64863", "64864", "64865", "64866", "64869"} {
		retries["172.16.16.154 "+port+" - "+away] = "earlier-interval"
	}
	return map[string]map[string]string{
		"test-cc-capture-1.pcap": {"141.193.213.21 443 - 147.32.80.37 37276 proto 6": "bare-ack"},
		"http_espn_fail.pcapng":  retries,
	}
}

// sentAgain returns what replay calls retransmissions.
func (k *tcpTalk) sentAgain() [2]uint32 {
	return [2]uint32{k.retransmits[0] + k.outOfOrder[0], k.retransmits[1] + k.outOfOrder[1]}
}

// checkHealth holds what replay says of TCP conversations against tshark's
// analysis, Zeek's state machine, and the segments themselves.
func checkHealth(t *testing.T, path string, want, have *account) {
	t.Helper()
	reasons, differ := differenceReasons(t), retransmissionsThatDiffer()[filepath.Base(path)]
	compared := 0
	for key, w := range want.tcp {
		h := have.tcp[key]
		if h == nil {
			t.Errorf("%s: no TCP", key)
			continue
		}
		if h.zeroWindows != w.zeroWindows || h.resets != w.resets {
			t.Errorf("%s: closed windows %v and resets %v, want %v and %v", key, h.zeroWindows, h.resets, w.zeroWindows, w.resets)
		}
		if w.reopened() || w.longestSilence() > longestLull {
			continue
		}
		compared++
		if hs := int64(w.handshake()); max(hs, int64(h.handshakeUS))-min(hs, int64(h.handshakeUS)) > handshakeError || (hs == 0) != (h.handshakeUS == 0) {
			t.Errorf("%s: handshake of %d µs, want %d", key, h.handshakeUS, hs)
		}
		if state := w.connState(); state != h.state {
			t.Errorf("%s: state %s, want %s", key, h.state, state)
		}
		if side, known := w.opened(); side != h.opener || known != h.openerKnown {
			t.Errorf("%s: opened by side %d (%v), want %d (%v)", key, h.opener, h.openerKnown, side, known)
		}
		sent := w.sentAgain()
		switch reason := differ[key.String()]; {
		case reason == "" && h.retransmits != sent:
			t.Errorf("%s: %d retransmissions, want %d", key, h.retransmits, sent)
		case reason != "" && (h.retransmits == sent || !slices.Contains(reasons, reason)):
			t.Errorf("%s: %d retransmissions agree although %q should part them, or the reason is not documented", key, sent, reason)
		}
	}
	t.Logf("%d of %d TCP conversations compared to the last detail", compared, len(want.tcp))
}
