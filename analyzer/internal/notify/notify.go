package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// Recorder keeps the state of deliveries where people can see it.
type Recorder interface {
	SaveDelivery(ctx context.Context, d store.Delivery) error
}

// Message is a report to be delivered.
type Message struct {
	ID       string // report id, also the webhook-id
	Severity detect.Severity
	Body     []byte // JSON
}

// Schedule returns how long after a failed attempt the next one follows, the
// first entry being the wait before the first attempt.
func Schedule() []time.Duration {
	return []time.Duration{0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour}
}

// Notifier delivers messages. Its methods are safe for concurrent use.
type Notifier struct {
	js        jetstream.JetStream
	rec       *recording
	log       *slog.Logger
	endpoints map[string]*endpoint
	schedule  []time.Duration
	timeout   time.Duration
	attempts  *prometheus.CounterVec
	gaveUp    *prometheus.CounterVec
}

// endpoint is one webhook and what waits for it.
type endpoint struct {
	name    string
	least   detect.Severity
	urlHash string
	sender  *sender
	wake    chan struct{}

	mu      sync.Mutex
	entries map[string]*entry // by report, open ones only
	off     bool              // answered 410
	last    *entry            // the latest attempt
}

// New returns a notifier for valid endpoints. It connects to nothing. rec may be
// unavailable at any time: the outbox is what counts, and its state is recorded
// as soon as that works.
func New(cfg Config, js jetstream.JetStream, rec Recorder, reg prometheus.Registerer, log *slog.Logger) (*Notifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	n := &Notifier{js: js, rec: newRecording(rec, log), log: log, endpoints: map[string]*endpoint{}, schedule: Schedule(), timeout: cfg.Timeout,
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebbwatch_webhook_attempts_total",
			Help: "Attempts to deliver a report to a webhook, by endpoint and result (delivered, refused: answered with an error, failed: no answer). If failed or refused grows, read the reason in the deliveries table.",
		}, []string{"endpoint", "result"}),
		gaveUp: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ebbwatch_webhook_given_up_total",
			Help: "Reports that were not delivered to an endpoint and are not tried again. Read them at /api/v1/deliveries?state=failed and repair the endpoint.",
		}, []string{"endpoint"}),
	}
	for _, w := range cfg.Webhooks {
		s, err := newSender(w, cfg.Timeout)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256([]byte(s.url))
		n.endpoints[w.Name] = &endpoint{name: w.Name, least: w.MinSeverity, urlHash: hex.EncodeToString(sum[:]), sender: s,
			wake: make(chan struct{}, 1), entries: map[string]*entry{}}
	}
	if reg != nil {
		reg.MustRegister(n.attempts, n.gaveUp, n.rec.failed)
	}
	return n, nil
}

// Send puts m into the outbox, once for each endpoint that wants its severity.
// When it returns nil the message survives a restart; sending it again changes
// nothing. It fails while JetStream cannot be reached: call it again then.
func (n *Notifier) Send(ctx context.Context, m Message) error {
	if len(n.endpoints) == 0 {
		return nil
	}
	kv, err := openBucket(ctx, n.js)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(n.endpoints)) {
		ep := n.endpoints[name]
		if m.Severity < ep.least {
			continue
		}
		now := time.Now().UTC()
		e := &entry{Report: m.ID, Endpoint: name, State: store.DeliveryPending, Created: now, Next: now, Updated: now, Body: m.Body}
		data, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("write outbox: %w", err)
		}
		switch _, err := kv.Get(ctx, e.key()); {
		case err == nil:
			continue
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return fmt.Errorf("read outbox: %w", err)
		}
		n.rec.put(e.row()) // before it can be delivered: a later state must not be overwritten
		_, err = kv.Create(ctx, e.key(), data)
		if err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
			return fmt.Errorf("write outbox: %w", err)
		}
	}
	return nil
}

// Run delivers until ctx ends; what is not delivered by then is when it runs again.
func (n *Notifier) Run(ctx context.Context) error {
	if len(n.endpoints) == 0 {
		<-ctx.Done()
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { n.rec.run(ctx) })
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		started := time.Now()
		if err := n.follow(ctx); ctx.Err() != nil {
			return nil
		} else if err != nil {
			n.log.Warn("outbox is not available", "error", err, "retry", wait)
		}
		if time.Since(started) > time.Minute {
			wait = time.Second
		}
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// follow keeps the endpoints' entries equal to the bucket and runs one worker
// for each endpoint, until the watch ends or ctx does.
func (n *Notifier) follow(ctx context.Context) error {
	kv, err := openBucket(ctx, n.js)
	if err != nil {
		return err
	}
	watch, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch outbox: %w", err)
	}
	defer func() { _ = watch.Stop() }()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	loaded := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case update, ok := <-watch.Updates():
			switch {
			case !ok:
				return errors.New("the watch on the outbox ended")
			case update == nil && !loaded: // everything that was there has been seen
				loaded = true
				for _, ep := range n.endpoints {
					wg.Go(func() { n.work(ctx, kv, ep) })
				}
			case update != nil && update.Operation() == jetstream.KeyValuePut:
				n.apply(update, !loaded)
			}
		}
	}
}

// apply takes over what the bucket holds.
func (n *Notifier) apply(update jetstream.KeyValueEntry, initial bool) {
	if name, ok := cutKey(update.Key(), disabledKind); ok {
		var d disabled
		if ep := n.endpoints[name]; ep != nil && json.Unmarshal(update.Value(), &d) == nil && d.URLHash == ep.urlHash {
			ep.disable()
		}
		return
	}
	e, err := decode(update)
	if err != nil {
		n.log.Warn("outbox holds an entry that cannot be read", "key", update.Key(), "error", err)
		return
	}
	if ep := n.endpoints[e.Endpoint]; ep != nil {
		ep.put(e)
	}
	if initial && time.Since(e.Updated) < 24*time.Hour {
		n.rec.put(e.row()) // the last record may have failed before the restart
	}
}

func cutKey(key, prefix string) (string, bool) {
	if len(key) <= len(prefix) || key[:len(prefix)] != prefix {
		return "", false
	}
	return key[len(prefix):], true
}

// work delivers to one endpoint, one message at a time, the earliest due first.
func (n *Notifier) work(ctx context.Context, kv jetstream.KeyValue, ep *endpoint) {
	for ctx.Err() == nil {
		e, wait := ep.due(time.Now())
		if e == nil {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ep.wake:
				timer.Stop()
			case <-ctx.Done():
				timer.Stop()
			}
			continue
		}
		n.deliver(ctx, kv, ep, e)
	}
}
