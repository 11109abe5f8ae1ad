package l7

import (
	"math"

	"github.com/ebbwatch/ebbwatch"
)

// Exchange is what the beginnings of both sides tell together.
type Exchange struct {
	// Hint has the request's words and the response's result. Its TimeNS is the
	// request's, if there is one.
	Hint
	// Answered tells that there is a response to the request.
	Answered bool
	// Mismatched tells that the response answers something else: another
	// protocol, another DNS question. Nothing is taken from it.
	Mismatched bool
	// LatencyUS is the time from the request to the response in microseconds,
	// at least 1; 0 where it is not known.
	LatencyUS uint32
}

// Pair merges the hints of the side that opened the conversation and of the
// other. Either may be the zero Hint, if nothing was captured of that side.
// A request by the second side to a response by the first is paired too: who
// opened a conversation is not always known.
func Pair(opener, other Hint) Exchange {
	request, response := opener, other
	if opener.Response && !other.Response && other.App != AppNone {
		request, response = other, opener
	}
	switch {
	case response.App == AppNone || !response.Response:
		if request.App == AppNone {
			request = response
		}
		return Exchange{Hint: request}
	case request.App == AppNone:
		return Exchange{Hint: response, Answered: true}
	case request.Response: // two answers, as of a conversation that is older than the capture
		return Exchange{Hint: request, Answered: true}
	case !answers(&request, &response):
		return Exchange{Hint: request, Mismatched: true}
	}
	e := Exchange{Hint: request, Answered: true}
	e.DNSRcode, e.DNSAnswers, e.HTTPStatus = response.DNSRcode, response.DNSAnswers, response.HTTPStatus
	if e.QUICVersion == 0 {
		e.QUICVersion = response.QUICVersion
	}
	if took := response.TimeNS - request.TimeNS; took >= 0 {
		e.LatencyUS = uint32(min(max(took/1000, 1), math.MaxUint32))
	}
	return e
}

// Match merges the hints of several messages of each side, in the order of
// their times, as DNS has them where A and AAAA are asked from one port: the
// first request that has a response, with it, wherever that stands among the
// others; without any, the first request.
func Match(opener, other []Hint) Exchange {
	if len(opener) <= 1 && len(other) <= 1 {
		return Pair(at(opener), at(other))
	}
	requests, responses := opener, other
	if at(opener).Response && len(other) > 0 && !other[0].Response {
		requests, responses = other, opener
	}
	for i := range requests {
		for j := range responses {
			if q, r := &requests[i], &responses[j]; q.App != AppNone && !q.Response && r.Response && answers(q, r) {
				return Pair(*q, *r)
			}
		}
	}
	return Pair(at(requests), at(responses))
}

// at returns the first, or the zero Hint.
func at(hints []Hint) Hint {
	if len(hints) == 0 {
		return Hint{}
	}
	return hints[0]
}

// answers tells whether the response is one to the request.
func answers(request, response *Hint) bool {
	if request.App != response.App {
		return false
	}
	if request.App != AppDNS {
		return true
	}
	// A response need not repeat the question (RFC 6762, section 6).
	return request.DNSID == response.DNSID &&
		(response.ServerName == "" || request.ServerName == response.ServerName && request.DNSType == response.DNSType)
}

// Record returns the exchange in the words of a flow record.
func (e *Exchange) Record() ebbwatch.Hint {
	r := ebbwatch.Hint{App: e.App, ServerName: e.ServerName, DNSAnswers: uint32(e.DNSAnswers), LatencyUS: e.LatencyUS,
		TLSALPN: e.TLSALPN, TLSJA4: e.TLSJA4, HTTPMethod: e.HTTPMethod, HTTPStatus: uint32(e.HTTPStatus), QUICVersion: QUICVersionName(e.QUICVersion)}
	if e.App == AppDNS && e.ServerName != "" {
		r.DNSType = DNSTypeName(e.DNSType)
	}
	if e.App == AppDNS && e.Answered {
		r.DNSRcode = DNSRcodeName(e.DNSRcode)
	}
	return r
}
