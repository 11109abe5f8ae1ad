package notify

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// deliver makes one attempt and writes its outcome to the outbox before anything
// else is sent to the endpoint.
func (n *Notifier) deliver(ctx context.Context, kv jetstream.KeyValue, ep *endpoint, e *entry) {
	if ep.isOff() {
		e.State, e.Error, e.Body, e.Updated = store.DeliveryFailed, "the endpoint is disabled: it answered 410 Gone", nil, time.Now().UTC()
		n.gaveUp.WithLabelValues(ep.name).Inc()
	} else {
		if !n.claim(ctx, kv, ep, e) {
			return
		}
		r := ep.sender.send(ctx, e.Report, e.Body, time.Now())
		if r.status == 0 && ctx.Err() != nil {
			e.Next = time.Now().UTC() // stopped, not failed: the next run tries again at once
			n.write(ctx, kv, ep, e)
			return
		}
		n.settle(ep, e, r)
		if r.status == http.StatusGone {
			ep.disable()
			data, _ := json.Marshal(disabled{ep.urlHash, time.Now().UTC()}) // cannot fail: a string and a time
			if _, err := kv.Put(ctx, disabledKind+ep.name, data); err != nil {
				n.log.Warn("endpoint is disabled until the restart only", "endpoint", ep.name, "error", err)
			}
		}
	}
	n.rec.put(e.row())
	n.write(ctx, kv, ep, e)
}

// claim moves the entry's next attempt behind this one, so that no other analyzer
// makes it at the same time; should this one be killed, it is made again then.
func (n *Notifier) claim(ctx context.Context, kv jetstream.KeyValue, ep *endpoint, e *entry) bool {
	e.Next = time.Now().UTC().Add(2 * n.timeout)
	writing, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err := save(writing, kv, e)
	switch {
	case err == nil:
		ep.put(e.clone())
		return true
	case errors.Is(err, errConflict):
		ep.forget(e) // the watch brings what the other wrote
	default:
		n.log.Warn("outbox is not available", "error", err)
		sleep(ctx, time.Second)
	}
	return false
}

// write writes the outcome of an attempt also while stopping, and for as long as
// it takes: without it the report would be sent again.
func (n *Notifier) write(ctx context.Context, kv jetstream.KeyValue, ep *endpoint, e *entry) {
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 15*time.Second) {
		writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		err := save(writing, kv, e)
		cancel()
		if err == nil {
			ep.put(e)
			return
		}
		if errors.Is(err, errConflict) {
			n.log.Warn("another analyzer delivers from the same outbox", "endpoint", ep.name, "report", e.Report)
			ep.forget(e) // the watch brings what the other wrote
			return
		}
		n.log.Warn("outcome of a delivery is not written yet", "endpoint", ep.name, "report", e.Report, "error", err)
		if !sleep(ctx, wait) {
			return
		}
	}
}

// settle puts the outcome of an attempt into e.
func (n *Notifier) settle(ep *endpoint, e *entry, r result) {
	now := time.Now().UTC()
	e.Attempts++
	e.HTTPStatus, e.Error, e.Updated = r.status, r.err, now
	outcome := "failed"
	switch {
	case r.delivered():
		e.State, e.Body, outcome = store.DeliveryDelivered, nil, "delivered"
	case r.status == http.StatusGone || e.Attempts >= len(n.schedule):
		e.State, e.Body = store.DeliveryFailed, nil
		n.gaveUp.WithLabelValues(ep.name).Inc()
	default:
		e.State = store.DeliveryRetrying
		e.Next = now.Add(max(jitter(n.schedule[e.Attempts]), r.retryAfter))
	}
	if !r.delivered() && r.status != 0 {
		outcome = "refused"
	}
	n.attempts.WithLabelValues(ep.name, outcome).Inc()
	if r.delivered() {
		n.log.Info("report delivered", "endpoint", ep.name, "report", e.Report, "attempt", e.Attempts)
	} else {
		n.log.Warn("report not delivered", "endpoint", ep.name, "report", e.Report, "attempt", e.Attempts, "state", e.State, "reason", r.err)
	}
}

// jitter spreads d by a tenth both ways.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d - d/10 + rand.N(d/5+1)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
