package web

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// talk is who talked with what lately.
type talk struct {
	Tables   []talkTable
	Failed   bool // it could not be read, or not in time
	programs map[string][]store.Program
	read     time.Time
}

type talkTable struct {
	ID, Title, Empty string
	Rows             []store.Exchange
}

const (
	talkLength = 15 * time.Minute
	talkRows   = 10
	// talkFresh is longer than freshFor: this reads flow records, not rollups alone.
	talkFresh = 10 * time.Second
	// talkLimit leaves time for what is known of incidents.
	talkLimit = 3 * time.Second

	programsOf    = time.Hour
	programsEach  = 3   // of one address
	programsAsked = 100 // addresses
	programsShown = 6   // of one incident
)

// whoTalks returns the busiest exchanges, those with losses, and the programs at
// the addresses of the open incidents, at most talkFresh old. The caller holds w.mu.
func (w *Web) whoTalks(ctx context.Context, open []incidentView, at time.Time) talk {
	if at.Sub(w.talk.read) < talkFresh {
		return w.talk
	}
	ctx, cancel := context.WithTimeout(ctx, talkLimit)
	defer cancel()
	t := talk{read: at, Tables: []talkTable{
		{ID: "busiest", Title: "Busiest", Empty: "No traffic is recorded in this time."},
		{ID: "losses", Title: "Sent again or dropped", Empty: "Nothing was sent again by TCP or dropped by a kernel."},
	}}
	if err := w.readTalk(ctx, &t, open); err != nil {
		w.log.Warn("page could not read who talks", "error", err)
		t = talk{read: at, Failed: true}
	}
	w.talk = t
	return t
}

func (w *Web) readTalk(ctx context.Context, t *talk, open []incidentView) (err error) {
	for i, by := range []store.Order{store.ByBytes, store.ByLosses} {
		if t.Tables[i].Rows, err = w.findings.Exchanges(ctx, t.read.Add(-talkLength), t.read, by, talkRows); err != nil {
			return err
		}
	}
	var addresses []string
	for _, in := range open {
		addresses = append(addresses, in.Entities...)
	}
	t.programs, err = w.findings.Programs(ctx, t.read.Add(-programsOf), t.read, addresses[:min(len(addresses), programsAsked)], programsEach)
	return err
}

// tell adds the programs at their addresses to the open incidents.
func (t talk) tell(open []incidentView) {
	for i := range open {
		for _, address := range open[i].Entities {
			open[i].Programs = append(open[i].Programs, t.programs[address]...)
		}
		open[i].Programs = open[i].Programs[:min(len(open[i].Programs), programsShown)]
	}
}

// owner says which program a side is, "" if that is not known.
func owner(s store.Side) string {
	var words []string
	for _, part := range []struct{ label, name string }{{"", s.Process}, {"", s.Unit}, {"container ", short(s.Container)}, {"pod ", short(s.Pod)}} {
		if part.name != "" {
			words = append(words, part.label+human.Clean(part.name, 48))
		}
	}
	return strings.Join(words, " · ")
}

// short cuts an id as tools for containers do.
func short(id string) string { return id[:min(len(id), 12)] }

// service names what is talked to: address, port and protocol.
func service(e store.Exchange) string {
	address := human.Clean(e.Dst.Address, 45)
	switch name := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}[e.Proto]; {
	case e.Port == 0 && name == "":
		return fmt.Sprintf("%s protocol %d", address, e.Proto)
	case e.Port == 0:
		return address + " " + name
	case name == "":
		return fmt.Sprintf("%s protocol %d", net.JoinHostPort(address, strconv.Itoa(int(e.Port))), e.Proto)
	default:
		return net.JoinHostPort(address, strconv.Itoa(int(e.Port))) + "/" + name
	}
}

// share writes how much of all packets of e some are. Of some, all there is are
// packets that were dropped before they came to an interface: then it is "".
func share(e store.Exchange, packets uint64) string {
	switch part := human.Number(round(percent(e, packets))); {
	case e.Packets == 0:
		return ""
	case part == "0":
		return "below 0.1 %"
	default:
		return part + " %"
	}
}

func percent(e store.Exchange, packets uint64) float64 {
	return 100 * float64(packets) / float64(max(e.Packets, packets, 1))
}

// worryPercent of losses is where throughput over a distance suffers: it goes with
// one over the square root of the loss (Mathis et al., CCR 27(3), 1997).
const worryPercent = 1

func worrying(e store.Exchange, packets uint64) bool { return percent(e, packets) >= worryPercent }

// roundTrip writes a round-trip time, "" if it is unknown.
func roundTrip(e store.Exchange) string {
	if e.RTT == 0 {
		return ""
	}
	return human.Value(e.RTT.Seconds(), human.Seconds)
}

// attempts says how many connections began and failed.
func attempts(e store.Exchange) string {
	s := human.Plural(int(min(e.Connections, 1<<31-1)), "connection", "connections")
	if e.Failed > 0 {
		s += ", " + human.Number(float64(e.Failed)) + " failed"
	}
	return s
}
