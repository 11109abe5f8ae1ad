// Package receiver is a webhook receiver as somebody else would write it: it
// verifies every request with the public Standard Webhooks library and keeps
// the reports.
package receiver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
)

const (
	port    = 8088
	path    = "/hooks/ebbwatch"
	maxBody = 1 << 20
)

// Report is what the body of a delivery holds.
type Report struct {
	ID       string `json:"id"`
	Title    string `json:"title"`
	Severity string `json:"severity"`
	Author   string `json:"author"`
	Note     string `json:"note"`
	Markdown string `json:"markdown"`
	Claims   []struct {
		Text     string   `json:"text"`
		Evidence []string `json:"evidence"`
	} `json:"claims"`
	Incident *struct {
		ID    string   `json:"id"`
		Kinds []string `json:"kinds"`
	} `json:"incident"`
	Findings []struct {
		ID       string `json:"id"`
		Kind     string `json:"kind"`
		Evidence []struct {
			Metric string  `json:"metric"`
			Value  float64 `json:"value"`
			Unit   string  `json:"unit"`
		} `json:"evidence"`
	} `json:"findings"`
}

// Message is one accepted delivery.
type Message struct {
	ID       string // webhook-id
	Type     string
	Received time.Time
	Refused  int // attempts at it that were refused before
	Repeated int // times that it came again after it was accepted: should be 0
	Bytes    int // of the body
	Report   Report
}

// Receiver keeps what it accepts. It is safe for concurrent use.
type Receiver struct {
	// RefuseFirst answers the first attempt at the first message with 503, to see
	// that it is tried again.
	RefuseFirst bool

	secret string
	hook   *standardwebhooks.Webhook

	mu       sync.Mutex
	messages []*Message
	refused  map[string]int
	invalid  []string
}

// New returns a receiver with a secret of its own.
func New() (*Receiver, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make webhook secret: %w", err)
	}
	secret := "whsec_" + base64.StdEncoding.EncodeToString(key)
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("make webhook secret: %w", err)
	}
	return &Receiver{secret: secret, hook: hook, refused: make(map[string]int)}, nil
}

// Secret returns the secret with which deliveries must be signed.
func (r *Receiver) Secret() string { return r.secret }

// URL returns where a receiver on host is reached.
func URL(host *netlab.Host) string {
	return "http://" + netip.AddrPortFrom(host.IPv4[0], port).String() + path
}

// Serve receives on host until ctx ends.
func (r *Receiver) Serve(ctx context.Context, host *netlab.Host) error {
	ln, err := host.Listen(ctx, "tcp", netip.AddrPortFrom(host.IPv4[0], port).String())
	if err != nil {
		return fmt.Errorf("receive webhooks: %w", err)
	}
	server := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("receive webhooks: %w", err)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	switch {
	case req.Method != http.MethodPost || req.URL.Path != path:
		http.NotFound(w, req)
		return
	case err != nil:
		http.Error(w, "body is too large or cut", http.StatusBadRequest)
		return
	}
	if err := r.hook.Verify(body, req.Header); err != nil {
		r.reject(w, http.StatusUnauthorized, fmt.Sprintf("signature: %v", err))
		return
	}
	var content struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      Report    `json:"data"`
	}
	if err := json.Unmarshal(body, &content); err != nil {
		r.reject(w, http.StatusBadRequest, fmt.Sprintf("body: %v", err))
		return
	}
	if content.Type == "" || content.Timestamp.IsZero() || content.Data.ID == "" || content.Data.Markdown == "" {
		r.reject(w, http.StatusBadRequest, "body: type, timestamp, data.id and data.markdown must be there")
		return
	}
	if !r.accept(req.Header.Get(standardwebhooks.HeaderWebhookID), content.Type, len(body), content.Data) {
		http.Error(w, "come again", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *Receiver) reject(w http.ResponseWriter, status int, reason string) {
	r.mu.Lock()
	r.invalid = append(r.invalid, reason)
	r.mu.Unlock()
	http.Error(w, reason, status)
}

// accept reports whether the message is kept, or at least not wanted again.
func (r *Receiver) accept(id, kind string, size int, report Report) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.messages, func(m *Message) bool { return m.ID == id }); i >= 0 {
		r.messages[i].Repeated++
		return true
	}
	if r.RefuseFirst && len(r.refused) == 0 {
		r.refused[id]++
		return false
	}
	r.messages = append(r.messages, &Message{
		ID: id, Type: kind, Received: time.Now(), Refused: r.refused[id], Bytes: size, Report: report,
	})
	return true
}

// Messages returns what was accepted so far, in the order of arrival.
func (r *Receiver) Messages() []Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Message, len(r.messages))
	for i, m := range r.messages {
		out[i] = *m
	}
	return out
}

// Invalid returns why requests were rejected: bad signatures and bodies.
func (r *Receiver) Invalid() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.invalid)
}
