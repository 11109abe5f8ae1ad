package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/app"
)

func TestApplicationHintsStandInTheRecords(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	peer := newHost(t)
	peer.connect("w0", "w1", 1)
	// The drain at the end is the only one: all that a conversation says stands in one record.
	r := runAgent(t, func(c *app.Config) { c.DrainInterval = time.Minute })
	r.watches(1)
	peer.run(func() error { return serveNames(t, "10.1.0.2:53") })
	peer.run(func() error { return serveHTTP(t, "10.1.0.2:80", nil) })
	peer.run(func() error { return serveHTTP(t, "[fd00:1::2]:443", selfSigned(t)) })

	if err := askName("10.1.0.2:53"); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://10.1.0.2/path", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "Shop.Example"
	get(t, http.DefaultTransport.(*http.Transport).Clone(), request)
	secure := http.DefaultTransport.(*http.Transport).Clone()
	secure.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, ServerName: "secret.example"} // the certificate is made up
	secure.ForceAttemptHTTP2 = true
	request, err = http.NewRequestWithContext(t.Context(), http.MethodGet, "https://[fd00:1::2]/", nil)
	if err != nil {
		t.Fatal(err)
	}
	get(t, secure, request)
	flows, _ := r.finish(ebbwatch.Counter{})

	dns := hinted(t, flows, 53)
	if h := dns.Hint; h.App != ebbwatch.AppDNS || h.ServerName != "www.example" || h.DNSType != "AAAA" || h.DNSRcode != "NXDOMAIN" || h.LatencyUS < 5000 {
		t.Errorf("DNS: %+v", h)
	}
	plain := hinted(t, flows, 80)
	if h := plain.Hint; h.App != ebbwatch.AppHTTP || h.ServerName != "shop.example" || h.HTTPMethod != "POST" || h.HTTPStatus != http.StatusTeapot || h.LatencyUS == 0 {
		t.Errorf("HTTP: %+v", h)
	}
	encrypted := hinted(t, flows, 443)
	if h := encrypted.Hint; h.App != ebbwatch.AppTLS || h.ServerName != "secret.example" || h.TLSALPN != "h2" || len(h.TLSJA4) != 36 || !strings.HasPrefix(h.TLSJA4, "t13d") {
		t.Errorf("TLS: %+v", h)
	}
	if encrypted.Hint.LatencyUS == 0 {
		t.Errorf("no time to the ServerHello: %+v", encrypted.Hint)
	}
	if plain.HandshakeUS == 0 || plain.RTTUS == 0 {
		t.Errorf("handshake %d µs, round trip %d µs", plain.HandshakeUS, plain.RTTUS)
	}
}

// hinted is the first record that tells of the application behind port.
func hinted(t *testing.T, flows []ebbwatch.Flow, port uint16) ebbwatch.Flow {
	t.Helper()
	for _, f := range flows {
		if f.DstPort == port && f.Hint.App != ebbwatch.AppNone {
			return f
		}
	}
	t.Errorf("no record of port %d has a hint; all:\n%s", port, list(flows))
	return ebbwatch.Flow{}
}

func get(t *testing.T, transport *http.Transport, request *http.Request) {
	t.Helper()
	transport.DisableKeepAlives = true
	answer, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
}

func serveHTTP(t *testing.T, address string, config *tls.Config) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	if config != nil {
		ln = tls.NewListener(ln, config)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })}
	t.Cleanup(func() { s.Close() })
	go func() { _ = s.Serve(ln) }()
	return nil
}

func selfSigned(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"}}
}

// question asks for AAAA of WwW.example.
var question = []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03WwW\x07example\x00\x00\x1c\x00\x01")

// serveNames answers every question, after some milliseconds, that there is no such name.
func serveNames(t *testing.T, address string) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
			answer := append([]byte(nil), buf[:n]...)
			answer[2], answer[3] = 0x81, 0x83
			_, _ = c.WriteTo(answer, from)
		}
	}()
	return nil
}

func askName(address string) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(question); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 512))
	return err
}
