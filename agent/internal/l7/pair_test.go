package l7

import (
	"math"
	"testing"

	"github.com/ebbwatch/ebbwatch"
)

func TestPair(t *testing.T) {
	query := Hint{App: AppDNS, TimeNS: 1e9, DNSID: 7, DNSType: 1, ServerName: "a.example"}
	reply := Hint{App: AppDNS, Response: true, TimeNS: 1e9 + 2_500_999, DNSID: 7, DNSType: 1, ServerName: "a.example", DNSRcode: 3, DNSAnswers: 2}
	both := query
	both.DNSRcode, both.DNSAnswers = 3, 2
	with := func(h Hint, change func(*Hint)) Hint { change(&h); return h }
	get := Hint{App: AppHTTP, TimeNS: 10, HTTPMethod: "GET", ServerName: "a.example"}
	ok := Hint{App: AppHTTP, TimeNS: 20, Response: true, HTTPStatus: 200}
	tests := []struct {
		name          string
		opener, other Hint
		want          Exchange
	}{
		{"a question and its answer", query, reply, Exchange{Hint: both, Answered: true, LatencyUS: 2500}},
		{"the other way round", reply, query, Exchange{Hint: both, Answered: true, LatencyUS: 2500}},
		{"a question without an answer", query, Hint{}, Exchange{Hint: query}},
		{"an answer without a question", Hint{}, reply, Exchange{Hint: reply, Answered: true}},
		{"nothing", Hint{}, Hint{}, Exchange{}},
		{"an answer with another id", query, with(reply, func(h *Hint) { h.DNSID++ }), Exchange{Hint: query, Mismatched: true}},
		{"an answer to another name", query, with(reply, func(h *Hint) { h.ServerName = "b.example" }), Exchange{Hint: query, Mismatched: true}},
		{"an answer to another type", query, with(reply, func(h *Hint) { h.DNSType = 28 }), Exchange{Hint: query, Mismatched: true}},
		{"an answer that does not repeat the question", query, with(reply, func(h *Hint) { h.ServerName, h.DNSType = "", 0 }), Exchange{Hint: both, Answered: true, LatencyUS: 2500}},
		{"an answer within a microsecond", get, ok, Exchange{Hint: with(get, func(h *Hint) { h.HTTPStatus = 200 }), Answered: true, LatencyUS: 1}},
		{"an answer before its question", with(get, func(h *Hint) { h.TimeNS = 30 }), ok,
			Exchange{Hint: with(get, func(h *Hint) { h.TimeNS, h.HTTPStatus = 30, 200 }), Answered: true}},
		{"an answer after two hours", get, with(ok, func(h *Hint) { h.TimeNS = 7200e9 }),
			Exchange{Hint: with(get, func(h *Hint) { h.HTTPStatus = 200 }), Answered: true, LatencyUS: math.MaxUint32}},
		{"an answer of another protocol", get, Hint{App: AppTLS, Response: true, TimeNS: 20}, Exchange{Hint: get, Mismatched: true}},
		{"an answer that was not understood", get, Hint{TimeNS: 20}, Exchange{Hint: get}},
		{"two questions", query, with(query, func(h *Hint) { h.ServerName = "b.example" }), Exchange{Hint: query}},
		{"two answers", reply, reply, Exchange{Hint: reply, Answered: true}},
		{"a version negotiation", Hint{App: AppQUIC, QUICVersion: 0x1a2a3a4a, TimeNS: 1000}, Hint{App: AppQUIC, Response: true, TimeNS: 9000},
			Exchange{Hint: Hint{App: AppQUIC, QUICVersion: 0x1a2a3a4a, TimeNS: 1000}, Answered: true, LatencyUS: 8}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Pair(tt.opener, tt.other); got != tt.want {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestMatch(t *testing.T) {
	ask := func(id, kind uint16, ns int64) Hint {
		return Hint{App: AppDNS, DNSID: id, DNSType: kind, ServerName: "a.example", TimeNS: ns}
	}
	say := func(id, kind uint16, ns int64, answers uint16) Hint {
		h := ask(id, kind, ns)
		h.Response, h.DNSAnswers = true, answers
		return h
	}
	merged := ask(1, 1, 1000)
	merged.DNSAnswers = 2
	hints := func(h ...Hint) []Hint { return h }
	for _, tt := range []struct {
		name          string
		opener, other []Hint
		want          Exchange
	}{
		{"answers in the other order", hints(ask(1, 1, 1000), ask(2, 28, 2000)), hints(say(2, 28, 5000, 1), say(1, 1, 9000, 2)), Exchange{Hint: merged, Answered: true, LatencyUS: 8}},
		{"the side that answers comes first", hints(say(2, 28, 5000, 1), say(1, 1, 9000, 2)), hints(ask(1, 1, 1000), ask(2, 28, 2000)), Exchange{Hint: merged, Answered: true, LatencyUS: 8}},
		{"the first is not answered", hints(ask(2, 28, 500), ask(1, 1, 1000)), hints(say(1, 1, 9000, 2)), Exchange{Hint: merged, Answered: true, LatencyUS: 8}},
		{"answers to something else", hints(ask(1, 1, 1000), ask(2, 28, 2000)), hints(say(3, 28, 5000, 1)), Exchange{Hint: ask(1, 1, 1000), Mismatched: true}},
		{"none is answered", hints(ask(1, 1, 1000), ask(2, 28, 2000)), nil, Exchange{Hint: ask(1, 1, 1000)}},
		{"answers alone", nil, hints(say(2, 28, 5000, 1), say(1, 1, 9000, 2)), Exchange{Hint: say(2, 28, 5000, 1), Answered: true}},
		{"one of each", hints(ask(1, 1, 1000)), hints(say(1, 1, 9000, 2)), Exchange{Hint: merged, Answered: true, LatencyUS: 8}},
		{"nothing", nil, nil, Exchange{}},
	} {
		if got := Match(tt.opener, tt.other); got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

func TestRecord(t *testing.T) {
	query := Hint{App: AppDNS, DNSType: 65, ServerName: "a.example"}
	for name, tt := range map[string]struct {
		in   Exchange
		want ebbwatch.Hint
	}{
		"nothing":                          {Exchange{}, ebbwatch.Hint{}},
		"a question without an answer":     {Exchange{Hint: query}, ebbwatch.Hint{App: AppDNS, ServerName: "a.example", DNSType: "HTTPS"}},
		"an answer of no error":            {Exchange{Hint: query, Answered: true, LatencyUS: 7}, ebbwatch.Hint{App: AppDNS, ServerName: "a.example", DNSType: "HTTPS", DNSRcode: "NOERROR", LatencyUS: 7}},
		"an announcement with no question": {Exchange{Hint: Hint{App: AppDNS, DNSAnswers: 3}, Answered: true}, ebbwatch.Hint{App: AppDNS, DNSRcode: "NOERROR", DNSAnswers: 3}},
		"HTTP":                             {Exchange{Hint: Hint{App: AppHTTP, HTTPMethod: "GET", HTTPStatus: 404}, Answered: true}, ebbwatch.Hint{App: AppHTTP, HTTPMethod: "GET", HTTPStatus: 404}},
		"QUIC": {Exchange{Hint: Hint{App: AppQUIC, QUICVersion: quic2, TLSALPN: "h3", TLSJA4: "x", ServerName: "b.example"}},
			ebbwatch.Hint{App: AppQUIC, QUICVersion: "2", TLSALPN: "h3", TLSJA4: "x", ServerName: "b.example"}},
	} {
		if got := tt.in.Record(); got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, tt.want)
		}
	}
}
