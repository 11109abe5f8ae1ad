package receiver

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const goodBody = `{"type":"incident.report","timestamp":"2026-01-02T03:04:05Z","data":{"id":"r-1","title":"t","markdown":"# t"}}`

// post sends body signed with secret and returns the status.
func post(t *testing.T, r *Receiver, id, secret, body string, at time.Time) int {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := hook.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	res := httptest.NewRecorder()
	r.ServeHTTP(res, req)
	return res.Code
}

func TestDeliveriesAreVerifiedAndKeptOnce(t *testing.T) {
	now := time.Now()
	other := "whsec_" + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, tt := range []struct {
		name     string
		secret   string // "" for the right one
		body     string
		at       time.Time
		status   int
		messages int
		invalid  int
	}{
		{"a signed report is kept", "", goodBody, now, 204, 1, 0},
		{"a foreign signature is refused", other, goodBody, now, 401, 0, 1},
		{"an old timestamp is refused", "", goodBody, now.Add(-time.Hour), 401, 0, 1},
		{"a body that is not JSON is refused", "", "no", now, 400, 0, 1},
		{"a body without a report is refused", "", `{"type":"incident.report","timestamp":"2026-01-02T03:04:05Z","data":{}}`, now, 400, 0, 1},
		{"an endless body is refused", "", strings.Repeat(" ", maxBody+1), now, 400, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := New()
			if err != nil {
				t.Fatal(err)
			}
			secret := tt.secret
			if secret == "" {
				secret = r.Secret()
			}
			if got := post(t, r, "m-1", secret, tt.body, tt.at); got != tt.status {
				t.Errorf("answered %d, want %d", got, tt.status)
			}
			if got := len(r.Messages()); got != tt.messages {
				t.Errorf("kept %d messages, want %d", got, tt.messages)
			}
			if got := len(r.Invalid()); got != tt.invalid {
				t.Errorf("counted %d invalid requests, want %d", got, tt.invalid)
			}
		})
	}
}

func TestTheFirstAttemptIsRefusedOnceAndRepetitionsAreCounted(t *testing.T) {
	r, err := New()
	if err != nil {
		t.Fatal(err)
	}
	r.RefuseFirst = true
	var got []int
	for _, id := range []string{"m-1", "m-2", "m-1", "m-1"} {
		got = append(got, post(t, r, id, r.Secret(), goodBody, time.Now()))
	}
	for i, want := range []int{503, 204, 204, 204} {
		if got[i] != want {
			t.Errorf("answers %v, want 503 and then 204", got)
			break
		}
	}
	messages := r.Messages()
	if len(messages) != 2 || messages[1].ID != "m-1" || messages[1].Refused != 1 || messages[1].Repeated != 1 {
		t.Errorf("kept %+v", messages)
	}
}
