package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ebbwatch/ebbwatch/internal/cli"
)

// sender makes single attempts at one endpoint.
type sender struct {
	url    string
	keys   [][]byte
	client *http.Client
}

func newSender(w Webhook, timeout time.Duration) (*sender, error) {
	target, keys, err := w.resolve()
	if err != nil {
		return nil, fmt.Errorf("webhook %s: %w", w.Name, err)
	}
	dialer := &net.Dialer{Timeout: timeout, Control: func(_, address string, _ syscall.RawConn) error {
		return allowed(address, w.AllowNetworks)
	}}
	return &sender{url: target, keys: keys, client: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{ // no proxy: it would dial what is refused here
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    timeout,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ErrRefusedAddress is wrapped when a URL resolves to a network that is not allowed.
var ErrRefusedAddress = errors.New("address is private, loopback or reserved and not in allow_networks")

// reserved are the networks that nothing on the Internet is in, and those that
// embed an IPv4 address which would have to be checked in turn.
var reserved = func() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range []string{"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"::/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "4000::/2", "8000::/1"} {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}()

// allowed is asked with the address that a connection goes to, after the name was
// resolved: a name cannot be resolved differently between check and use.
func allowed(address string, allow []netip.Prefix) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return ErrRefusedAddress
	}
	ip := ap.Addr().Unmap().WithZone("")
	for _, p := range allow {
		if p.Contains(ip) {
			return nil
		}
	}
	for _, p := range reserved {
		if p.Contains(ip) {
			return ErrRefusedAddress
		}
	}
	return nil
}

// result is the outcome of one attempt.
type result struct {
	status     int // 0 without an answer
	err        string
	retryAfter time.Duration
}

func (r result) delivered() bool { return r.status >= 200 && r.status < 300 }

// send makes one attempt. id is the webhook-id, the same in every attempt.
func (s *sender) send(ctx context.Context, id string, body []byte, now time.Time) result {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return result{err: "the request could not be made"} // its text holds the URL
	}
	stamp := strconv.FormatInt(now.Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "ebbwatch/"+cli.Version())
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", stamp)
	req.Header.Set("webhook-signature", signatures(s.keys, id, stamp, body))
	resp, err := s.client.Do(req)
	if err != nil {
		return result{err: redacted(err)}
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // lets the connection be used again
	r := result{status: resp.StatusCode, retryAfter: retryAfter(resp.Header.Get("Retry-After"), now)}
	if !r.delivered() {
		r.err = fmt.Sprintf("answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
		if resp.StatusCode/100 == 3 {
			r.err += ": redirects are not followed"
		}
	}
	return r
}

// signatures signs with every key, so that a receiver verifies with the old or the new one.
func signatures(keys [][]byte, id, stamp string, body []byte) string {
	var list []string
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.", id, stamp)
		mac.Write(body)
		list = append(list, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(list, " ")
}

// redacted says what went wrong without the URL or the names in it.
func redacted(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	var timeout interface{ Timeout() bool }
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, ErrRefusedAddress):
		return ErrRefusedAddress.Error()
	case errors.As(err, &dns):
		return "the host name could not be resolved"
	case errors.As(err, &cert):
		return "the certificate could not be verified"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed without an answer"
	}
	return "the request failed"
}

// retryAfter reads a Retry-After header: seconds or a date.
func retryAfter(header string, now time.Time) time.Duration {
	if header == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(header); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

const maxRetryAfter = 24 * time.Hour
