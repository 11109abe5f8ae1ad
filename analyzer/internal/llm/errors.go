package llm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sashabaranov/go-openai"
)

// Error says why there are no words. Its text never holds the body of a reply.
type Error struct {
	note string
	err  error
}

// Notes that stand in the report.
const (
	noteRefused     = "gateway refused"
	noteTimeout     = "the model took too long"
	noteUnreachable = "the model could not be reached"
	noteMalformed   = "the model's reply was malformed"
	noteDeclined    = "the model declined"
	noteFailed      = "the model gateway failed"
	noteBusy        = "the model gateway is over its limit"
	noteKey         = "the model gateway does not accept the key"
	noteLimit       = "the hourly limit of worded reports is reached"
	noteResting     = "the model is left alone for a minute after a failure"
	noteUnusable    = "the evidence could not be written for the model"
)

func (e *Error) Error() string { return e.note + ": " + e.err.Error() }

func (e *Error) Unwrap() error { return e.err }

// Note returns a few words for the reader of the report.
func (e *Error) Note() string { return e.note }

// ofServer tells whether the next request would likely fail as well.
func (e *Error) ofServer() bool {
	switch e.note {
	case noteTimeout, noteUnreachable, noteFailed, noteBusy:
		return true
	}
	return false
}

var (
	errRedirect = errors.New("the gateway redirects")
	errTooLarge = errors.New("the reply is too large")
	errEmpty    = errors.New("the reply is empty")
	errCut      = errors.New("the reply is not complete")
	errRefused  = errors.New("the model refused")
)

// statusOf returns the HTTP status that err carries, 0 if none. The texts of
// go-openai's errors hold whole bodies, so only the status is used.
func statusOf(err error) int {
	var api *openai.APIError
	var request *openai.RequestError
	switch {
	case errors.As(err, &api):
		return api.HTTPStatusCode
	case errors.As(err, &request):
		return request.HTTPStatusCode
	}
	return 0
}

func retryable(err error) bool {
	status := statusOf(err)
	return status == http.StatusTooManyRequests || status >= 500
}

// lacksSchema tells whether err is how a server without json_schema answers.
func lacksSchema(err error) bool {
	switch statusOf(err) {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusInternalServerError, http.StatusNotImplemented:
		return true
	}
	return false
}

func classify(ctx context.Context, err error) *Error {
	for _, known := range []error{errRedirect, errTooLarge, errEmpty, errCut, errRefused} {
		if !errors.Is(err, known) {
			continue
		}
		if errors.Is(known, errRefused) {
			return &Error{noteDeclined, known}
		}
		return &Error{noteMalformed, known}
	}
	status := statusOf(err)
	cause := fmt.Errorf("HTTP status %d", status)
	switch {
	case ctx.Err() != nil:
		return &Error{noteTimeout, ctx.Err()}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{noteTimeout, context.DeadlineExceeded}
	case status == http.StatusBadRequest || status == http.StatusForbidden || status == http.StatusRequestEntityTooLarge:
		return &Error{noteRefused, cause}
	case status == http.StatusUnauthorized:
		return &Error{noteKey, cause}
	case status == http.StatusTooManyRequests:
		return &Error{noteBusy, cause}
	case status >= 300:
		return &Error{noteFailed, cause}
	case status >= 200:
		return &Error{noteMalformed, errors.New("the reply is not the JSON of a completion")}
	case isNetwork(err):
		return &Error{noteUnreachable, errors.New("connection failed")} // its text would hold the URL
	}
	return &Error{noteMalformed, errors.New("the reply is not the JSON of a completion")}
}

// isNetwork tells whether the request did not get as far as an answer.
func isNetwork(err error) bool {
	var op interface{ Timeout() bool } // *url.Error and every net.Error
	return errors.As(err, &op)
}

// maxReply bounds the body of a reply, errors included.
const maxReply = 256 << 10

// transport bounds the bodies of replies.
type transport struct{ base *http.Transport }

func newTransport() *transport {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost, base.MaxResponseHeaderBytes, base.IdleConnTimeout = 2, 64<<10, 30*time.Second
	return &transport{base}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &bounded{resp.Body, maxReply}
	return resp, nil
}

// bounded fails a reader that holds more than left bytes: cutting would make the
// reply look complete.
type bounded struct {
	io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
