package l7

import (
	"strings"
	"testing"
)

func TestHTTPRequests(t *testing.T) {
	req := func(method, host string) Hint { return Hint{App: AppHTTP, HTTPMethod: method, ServerName: host} }
	flawed := func(h Hint, f Flaw) Hint { h.Flaw, h.FlawIn = f, AppHTTP; return h }
	tests := []struct {
		name, in string
		want     Hint
	}{
		{"origin form", "GET /a?b HTTP/1.1\r\nHost: WWW.Example\r\n\r\n", req("GET", "www.example")},
		{"a host with a port", "GET / HTTP/1.1\r\nhost:www.example:8080\r\n\r\n", req("GET", "www.example")},
		{"lines that end with a line feed alone", "GET / HTTP/1.1\nHost: a.example\n\n", req("GET", "a.example")},
		{"an empty line first", "\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", req("GET", "a.example")},
		{"an IPv6 address", "GET / HTTP/1.1\r\nHost: [2001:DB8::0:1]:80\r\n\r\n", req("GET", "2001:db8::1")},
		{"absolute form goes before the field", "GET HTTP://a.example:80/x HTTP/1.1\r\nHost: b.example\r\n\r\n", req("GET", "a.example")},
		{"absolute form with a user", "GET http://b.example@a.example?x HTTP/1.1\r\nHost: a.example\r\n\r\n", req("GET", "a.example")},
		{"authority form", "CONNECT a.example:443 HTTP/1.1\r\n\r\n", req("CONNECT", "a.example")},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", req("OPTIONS", "a.example")},
		{"a method that nobody registered", "BREW /pot HTTP/1.0\r\n\r\n", req("BREW", "")},
		{"no host before HTTP/1.1", "GET / HTTP/1.0\r\n\r\n", req("GET", "")},
		{"an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", req("GET", "")},
		{"no host", "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", flawed(req("GET", ""), FlawMalformed)},
		{"two hosts: the first counts", "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", flawed(req("GET", "a.example"), FlawMalformed)},
		{"a host that is continued", "GET / HTTP/1.1\r\nHost: a.example\r\n b.example\r\n\r\n", flawed(req("GET", ""), FlawMalformed)},
		{"a host inside a continued line", "GET / HTTP/1.1\r\nX: y\r\n Host: b.example\r\nHost: a.example\r\n\r\n", flawed(req("GET", "a.example"), FlawMalformed)},
		{"a space before the colon", "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", flawed(req("GET", ""), FlawMalformed)},
		{"a null byte in the host", "GET / HTTP/1.1\r\nHost: a\x00.example\r\n\r\n", flawed(req("GET", ""), FlawMalformed)},
		{"a carriage return inside a line", "GET / HTTP/1.1\r\nX: \rHost: a.example\r\nHost: b.example\r\n\r\n", flawed(req("GET", "b.example"), FlawMalformed)},
		{"a host that is none", "GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", flawed(req("GET", ""), FlawName)},
		{"a port that is none", "GET / HTTP/1.1\r\nHost: a.example:80x\r\n\r\n", flawed(req("GET", ""), FlawName)},
		{"a space in the target", "GET /a b HTTP/1.1\r\nHost: a.example\r\n\r\n", flawed(req("GET", "a.example"), FlawMalformed)},
		{"a version that is none", "GET / HTTP/1.0.8\r\nHost: a.example\r\n\r\n", flawed(req("GET", "a.example"), FlawMalformed)},
		{"a control character in the target", "GET /\x07 HTTP/1.1\r\nHost: a.example\r\n\r\n", flawed(req("GET", "a.example"), FlawMalformed)},
		{"fields that were cut after the host", "GET / HTTP/1.1\r\nHost: a.example\r\nCookie: x", req("GET", "a.example")},
		{"fields that were cut before the host", "GET / HTTP/1.1\r\nCookie: x", flawed(req("GET", ""), FlawTruncated)},
		{"fields that were cut within the host", "GET / HTTP/1.1\r\nHost: a.exam", flawed(req("GET", ""), FlawTruncated)},
		{"a first line that was cut", "GET /" + strings.Repeat("x", 5000), flawed(req("GET", ""), FlawTruncated)},
		{"a first line that was cut in the version", "GET /x HTTP/", flawed(req("GET", ""), FlawTruncated)},
		{"a first line that was cut after the method", "GET ", flawed(Hint{}, FlawTruncated)},
		{"a known word before control characters", "GET /\x01\x02", flawed(Hint{}, FlawMalformed)},
		{"an unknown word that was cut", "BREW /pot", Hint{}},
		{"RTSP", "OPTIONS rtsp://a.example/x RTSP/1.0\r\nCSeq: 1\r\n\r\n", Hint{}},
		{"RTSP that was cut", "OPTIONS rtsp://a.example/x RTSP/1.", Hint{}},
		{"SIP", "OPTIONS sip:a@a.example SIP/2.0\r\nHost: a\r\n\r\n", Hint{}},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Hint{}},
		{"HTTP/0.9", "GET /\r\n", Hint{}},
		{"a method longer than any", strings.Repeat("A", 33) + " / HTTP/1.1\r\nHost: a\r\n\r\n", Hint{}},
		{"SMTP", "EHLO a.example\r\n", Hint{}},
		{"nothing but spaces", "   ", Hint{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Parser
			if got := p.Parse(&Beginning{Payload: []byte(tt.in), Proto: protoTCP}); got != tt.want {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestHTTPRequestsOfRealClients(t *testing.T) {
	for file, want := range map[string]Hint{
		"curl":         {App: AppHTTP, HTTPMethod: "GET", ServerName: "curl.example"},
		"curl-proxy":   {App: AppHTTP, HTTPMethod: "POST", ServerName: "proxied.example"},
		"curl-connect": {App: AppHTTP, HTTPMethod: "CONNECT", ServerName: "tunnel.example"},
		"wget":         {App: AppHTTP, HTTPMethod: "GET", ServerName: "127.0.0.1"},
	} {
		var p Parser
		if got := p.Parse(&Beginning{Payload: fixture(t, "http/"+file+".bin"), Proto: protoTCP}); got != want {
			t.Errorf("%s: got %+v\nwant %+v", file, got, want)
		}
	}
}

func TestHTTPResponses(t *testing.T) {
	status := func(s uint16) Hint { return Hint{App: AppHTTP, Response: true, HTTPStatus: s} }
	flawed := func(h Hint, f Flaw) Hint { h.Flaw, h.FlawIn = f, AppHTTP; return h }
	tests := []struct {
		name, in string
		want     Hint
	}{
		{"with a reason", "HTTP/1.1 200 OK\r\n\r\n", status(200)},
		{"without a reason", "HTTP/1.0 404\r\n\r\n", status(404)},
		{"without a reason and its space, cut", "HTTP/1.1 503", status(503)},
		{"after interim responses", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\n\r\n", status(201)},
		{"an interim response alone", "HTTP/1.1 100 Continue\r\n\r\n", status(100)},
		{"an interim response and something else", "HTTP/1.1 100 Continue\r\n\r\nxyz", status(100)},
		{"a change of protocol is final", "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", status(101)},
		{"a status that was cut", "HTTP/1.1 20", flawed(Hint{App: AppHTTP, Response: true}, FlawTruncated)},
		{"a status of four digits", "HTTP/1.1 2000 OK\r\n", flawed(Hint{}, FlawMalformed)},
		{"a status of letters", "HTTP/1.1 abc OK\r\n", flawed(Hint{}, FlawMalformed)},
		{"a status beyond 599, as some servers have", "HTTP/1.1 999 No\r\n", status(999)},
		{"a status below 100", "HTTP/1.1 099 No\r\n", flawed(Hint{}, FlawMalformed)},
		{"two spaces", "HTTP/1.1  200 OK\r\n", flawed(Hint{}, FlawMalformed)},
		{"a version of letters", "HTTP/1.x 200 OK\r\n", flawed(Hint{}, FlawMalformed)},
		{"another protocol", "ICY 200 OK\r\n", Hint{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Parser
			if got := p.Parse(&Beginning{Payload: []byte(tt.in), Proto: protoTCP}); got != tt.want {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}
