package notify

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

func jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats is not ready")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// records keeps what a Notifier records.
type records struct {
	mu   sync.Mutex
	rows []store.Delivery
	down bool
}

func (r *records) SaveDelivery(_ context.Context, d store.Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return errors.New("down")
	}
	r.rows = append(r.rows, d)
	return nil
}

func (r *records) last() store.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) == 0 {
		return store.Delivery{}
	}
	return r.rows[len(r.rows)-1]
}

// of returns the last record of a report.
func (r *records) of(report string) store.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range slices.Backward(r.rows) {
		if d.Report == report {
			return d
		}
	}
	return store.Delivery{}
}

func secret(fill byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func hook(url string) Webhook {
	return Webhook{Name: "pager", URL: config.Secret(url), Secrets: []config.Secret{config.Secret(secret(1))}, AllowNetworks: loopback}
}

// run starts a notifier with a schedule of short waits and returns it with its stop.
func run(t *testing.T, js jetstream.JetStream, rec Recorder, logs io.Writer, hooks ...Webhook) (*Notifier, func()) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Webhooks = hooks
	n, err := New(cfg, js, rec, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	n.schedule = slices.Repeat([]time.Duration{20 * time.Millisecond}, 4)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return n, stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within 10 s: %s", what)
}

// receiver answers with the given statuses in turn, the last one for ever.
type receiver struct {
	mu       sync.Mutex
	statuses []int
	header   http.Header
	got      []*http.Request
	bodies   [][]byte
	times    []time.Time
	busy     int
	overlap  bool
	delay    time.Duration
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	r.busy++
	r.overlap = r.overlap || r.busy > 1
	status := r.statuses[min(len(r.got), len(r.statuses)-1)]
	r.got, r.bodies, r.times = append(r.got, req), append(r.bodies, body), append(r.times, time.Now())
	r.mu.Unlock()
	time.Sleep(r.delay)
	r.mu.Lock()
	r.busy--
	r.mu.Unlock()
	for name, values := range r.header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func serve(t *testing.T, r *receiver) string {
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return s.URL
}

var message = Message{ID: "r-1", Severity: detect.High, Body: []byte(`{"type":"incident.report"}`)}

func TestAFailedDeliveryIsRetriedAndSigned(t *testing.T) {
	r := &receiver{statuses: []int{500, 503, 204}}
	w := hook(serve(t, r))
	w.Secrets = append(w.Secrets, config.Secret(secret(2)))
	rec := &records{}
	n, _ := run(t, jetStream(t), rec, io.Discard, w)
	if err := n.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	eventually(t, "delivered", func() bool { return rec.last().State == store.DeliveryDelivered })
	if d := rec.last(); d.Attempts != 3 || d.HTTPStatus != 204 || d.Error != "" || !d.NextAttempt.IsZero() || d.Report != "r-1" || d.Endpoint != "pager" {
		t.Errorf("recorded %+v", d)
	}
	for i, fill := range []byte{1, 2} { // the old and the new secret both verify
		wh, err := standardwebhooks.NewWebhook(secret(fill))
		if err != nil {
			t.Fatal(err)
		}
		for j, req := range r.got {
			if err := wh.Verify(r.bodies[j], req.Header); err != nil {
				t.Errorf("secret %d, attempt %d: %v", i, j, err)
			}
			if req.Header.Get("webhook-id") != "r-1" {
				t.Errorf("attempt %d has webhook-id %q", j, req.Header.Get("webhook-id"))
			}
		}
	}
	wrong, _ := standardwebhooks.NewWebhook(secret(3))
	if wrong.Verify(r.bodies[0], r.got[0].Header) == nil {
		t.Error("a foreign secret verifies")
	}
}

func TestARestartContinuesAndDeliversOnce(t *testing.T) {
	js := jetStream(t)
	r := &receiver{statuses: []int{500, 200}}
	w := hook(serve(t, r))
	n, stop := run(t, js, &records{}, io.Discard, w)
	n.schedule[1] = time.Hour // nothing more before the restart
	if err := n.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	eventually(t, "first attempt", func() bool { return n.States()[0].Retrying == 1 })
	stop()
	kv, err := js.KeyValue(t.Context(), Bucket)
	if err != nil {
		t.Fatal(err)
	}
	kve, err := kv.Get(t.Context(), "report.pager.r-1")
	if err != nil {
		t.Fatal(err)
	}
	e, err := decode(kve)
	if err != nil || e.Attempts != 1 || time.Until(e.Next) < 50*time.Minute {
		t.Fatalf("outbox holds %+v, %v", e, err)
	}
	e.Next = time.Now() // the hour has passed
	if err := save(t.Context(), kv, e); err != nil {
		t.Fatal(err)
	}
	rec := &records{}
	n, stop = run(t, js, rec, io.Discard, w)
	eventually(t, "delivered", func() bool { return rec.last().State == store.DeliveryDelivered })
	if rec.last().Attempts != 2 {
		t.Errorf("recorded %+v", rec.last())
	}
	if err := n.Send(t.Context(), message); err != nil { // the pipeline repeats itself
		t.Fatal(err)
	}
	stop()
	n, _ = run(t, js, rec, io.Discard, w)
	other := Message{ID: "r-2", Severity: detect.High, Body: message.Body}
	if err := n.Send(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next report", func() bool { return r.count() >= 3 })
	if r.count() != 3 || r.got[2].Header.Get("webhook-id") != "r-2" {
		t.Errorf("%d requests, the last with id %q", r.count(), r.got[r.count()-1].Header.Get("webhook-id"))
	}
}

func TestGoneDisablesTheEndpointForGood(t *testing.T) {
	js := jetStream(t)
	r := &receiver{statuses: []int{410}}
	w := hook(serve(t, r))
	rec := &records{}
	n, stop := run(t, js, rec, io.Discard, w)
	if err := n.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	eventually(t, "given up", func() bool { return rec.last().State == store.DeliveryFailed })
	eventually(t, "disabled", func() bool {
		kv, err := js.KeyValue(t.Context(), Bucket)
		if err != nil {
			return false
		}
		_, err = kv.Get(t.Context(), "disabled.pager")
		return err == nil && n.States()[0].Disabled
	})
	stop()
	n, _ = run(t, js, rec, io.Discard, w)
	if err := n.Send(t.Context(), Message{ID: "r-2", Severity: detect.High, Body: message.Body}); err != nil {
		t.Fatal(err)
	}
	// The first report is recorded again after the restart, before or after the second.
	eventually(t, "second given up", func() bool { return rec.of("r-2").State == store.DeliveryFailed })
	if r.count() != 1 {
		t.Errorf("%d requests", r.count())
	}
	if !strings.Contains(rec.of("r-2").Error, "410") {
		t.Errorf("recorded %+v", rec.of("r-2"))
	}
}

func TestItGivesUpAfterTheSchedule(t *testing.T) {
	r := &receiver{statuses: []int{302}, header: http.Header{"Location": {"/elsewhere"}}}
	rec := &records{}
	n, _ := run(t, jetStream(t), rec, io.Discard, hook(serve(t, r)))
	if err := n.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	eventually(t, "given up", func() bool { return rec.last().State == store.DeliveryFailed })
	if r.count() != len(n.schedule) || rec.last().Error != "answered 302 Found: redirects are not followed" {
		t.Errorf("%d attempts, recorded %+v", r.count(), rec.last())
	}
	for _, req := range r.got {
		if req.URL.Path == "/elsewhere" {
			t.Error("a redirect was followed")
		}
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	r := &receiver{statuses: []int{429, 200}, header: http.Header{"Retry-After": {"1"}}}
	rec := &records{}
	n, _ := run(t, jetStream(t), rec, io.Discard, hook(serve(t, r)))
	if err := n.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	eventually(t, "delivered", func() bool { return rec.last().State == store.DeliveryDelivered })
	if gap := r.times[1].Sub(r.times[0]); gap < time.Second {
		t.Errorf("tried again after %v", gap)
	}
}

func TestOneInFlightPerEndpoint(t *testing.T) {
	r := &receiver{statuses: []int{200}, delay: 30 * time.Millisecond}
	n, _ := run(t, jetStream(t), &records{}, io.Discard, hook(serve(t, r)))
	for i := range 8 {
		if err := n.Send(t.Context(), Message{ID: "r-" + string(rune('a'+i)), Severity: detect.Low, Body: message.Body}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all delivered", func() bool { return r.count() == 8 && n.States()[0].Waiting == 0 })
	if r.overlap {
		t.Error("two requests at the same time")
	}
}

func TestTwoAnalyzersDeliverOnce(t *testing.T) {
	js := jetStream(t)
	r := &receiver{statuses: []int{200}, delay: 50 * time.Millisecond}
	w := hook(serve(t, r))
	first, _ := run(t, js, &records{}, io.Discard, w)
	second, _ := run(t, js, &records{}, io.Discard, w)
	for i := range 5 {
		m := Message{ID: "r-" + string(rune('a'+i)), Severity: detect.Low, Body: message.Body}
		for _, n := range []*Notifier{first, second} {
			if err := n.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "all delivered", func() bool {
		return r.count() >= 5 && first.States()[0].Waiting == 0 && second.States()[0].Waiting == 0
	})
	seen := map[string]int{}
	for _, req := range r.got {
		seen[req.Header.Get("webhook-id")]++
	}
	if len(r.got) != 5 || len(seen) != 5 {
		t.Errorf("deliveries by report: %v", seen)
	}
}

func TestSeverityBelowTheLeastIsNotSent(t *testing.T) {
	r := &receiver{statuses: []int{200}}
	w := hook(serve(t, r))
	w.MinSeverity = detect.High
	n, _ := run(t, jetStream(t), &records{}, io.Discard, w)
	for _, m := range []Message{{"r-low", detect.Medium, message.Body}, {"r-high", detect.High, message.Body}} {
		if err := n.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "delivered", func() bool { return r.count() > 0 && n.States()[0].Waiting == 0 })
	if r.count() != 1 || r.got[0].Header.Get("webhook-id") != "r-high" {
		t.Errorf("%d requests", r.count())
	}
}

func TestPrivateAddressesNeedPermission(t *testing.T) {
	r := &receiver{statuses: []int{200}}
	var logs bytes.Buffer
	w := hook(strings.Replace(serve(t, r), "127.0.0.1", "localhost", 1) + "/services/T0KEN?key=s3cret")
	w.AllowNetworks = nil
	rec := &records{}
	n, stop := run(t, jetStream(t), rec, &logs, w)
	if err := n.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	eventually(t, "given up", func() bool { return rec.last().State == store.DeliveryFailed })
	stop()
	if r.count() != 0 || rec.last().Error != ErrRefusedAddress.Error() {
		t.Errorf("%d requests, recorded %+v", r.count(), rec.last())
	}
	for _, d := range rec.rows {
		if strings.Contains(d.Error, "localhost") || strings.Contains(d.Error, "T0KEN") {
			t.Errorf("the error shows the URL: %s", d.Error)
		}
	}
	if text := logs.String(); strings.Contains(text, "T0KEN") || strings.Contains(text, "s3cret") || strings.Contains(text, "whsec_") {
		t.Errorf("the log shows a secret: %s", text)
	}
}

func TestAllowed(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8:443": true, "[2606:4700::1111]:443": true, "10.1.2.3:80": false, "172.20.0.1:80": false, "192.168.1.1:80": false, "127.0.0.1:80": false,
		"169.254.169.254:80": false, "100.64.0.1:80": false, "0.0.0.0:80": false, "224.0.0.1:80": false, "255.255.255.255:80": false, "[::1]:80": false,
		"[::]:80": false, "[fe80::1%eth0]:80": false, "[fc00::1]:80": false, "[::ffff:127.0.0.1]:80": false, "[64:ff9b::a00:1]:80": false,
		"[2002:a00:1::]:80": false, "[ff02::1]:80": false, "[2001:db8::1]:80": false, "10.9.9.9:80": true, "nonsense": false,
	} {
		if err := allowed(address, []netip.Prefix{netip.MustParsePrefix("10.9.9.0/24")}); (err == nil) != want {
			t.Errorf("allowed(%s) = %v, want %v", address, err, want)
		}
	}
}

func TestTheStateIsRecordedOnceTheStoreIsBack(t *testing.T) {
	r := &receiver{statuses: []int{200}}
	rec := &records{down: true}
	n, _ := run(t, jetStream(t), rec, io.Discard, hook(serve(t, r)))
	if err := n.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	eventually(t, "delivered without the store", func() bool { return r.count() == 1 && n.States()[0].LastStatus == 200 })
	rec.mu.Lock()
	rec.down = false
	rec.mu.Unlock()
	eventually(t, "recorded", func() bool { return rec.last().State == store.DeliveryDelivered })
}

func TestConfigIsChecked(t *testing.T) {
	good := hook("https://hooks.example.com/T0KEN")
	for _, c := range []struct {
		name, want string
		change     func(*Webhook)
	}{
		{"a name that cannot be a key", "webhooks[0].name", func(w *Webhook) { w.Name = "a.b" }},
		{"no URL", "webhooks[0].url", func(w *Webhook) { w.URL = "" }},
		{"another scheme", "not an http", func(w *Webhook) { w.URL = "ftp://hooks.example.com/T0KEN" }},
		{"no secret", "webhooks[0].secrets", func(w *Webhook) { w.Secrets = nil }},
		{"a short secret", "whsec_", func(w *Webhook) { w.Secrets = []config.Secret{"whsec_T0KEN"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := good
			c.change(&w)
			_, err := New(Config{Webhooks: []Webhook{w}, Timeout: time.Second}, nil, nil, nil, slog.Default())
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "T0KEN") {
				t.Errorf("error is %v", err)
			}
		})
	}
	if _, err := New(Config{Webhooks: []Webhook{good, good}, Timeout: time.Second}, nil, nil, nil, slog.Default()); err == nil {
		t.Error("two endpoints of one name were accepted")
	}
}

func TestScheduleIsThatOfStandardWebhooks(t *testing.T) {
	total := time.Duration(0)
	for _, d := range Schedule() {
		total += d
	}
	if len(Schedule()) != 10 || total != 75*time.Hour+35*time.Minute+5*time.Second {
		t.Errorf("%d attempts over %v", len(Schedule()), total)
	}
	for range 1000 {
		if d := jitter(time.Hour); d < 54*time.Minute || d > 66*time.Minute {
			t.Fatalf("jitter gave %v", d)
		}
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{"": 0, "120": 2 * time.Minute, "-5": 0, "99999999999": 24 * time.Hour, "999999": 24 * time.Hour, "junk": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2020 03:05:05 GMT": 0} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("Retry-After %q gave %v, want %v", header, got, want)
		}
	}
}
