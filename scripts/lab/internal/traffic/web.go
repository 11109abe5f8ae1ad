package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/netlab"
)

const maxBody = 32 << 20 // bytes that a page or a download may have

// blob answers any path /SIZE with that many bytes.
func blob(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/"), 10, 64)
	if err != nil || n < 0 || n > maxBody {
		http.NotFound(w, r)
		return
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxBody)); err != nil {
		return // the visitor went away
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	chunk := make([]byte, 32<<10)
	for n > 0 {
		part := chunk[:min(n, int64(len(chunk)))]
		if _, err := w.Write(part); err != nil {
			return
		}
		n -= int64(len(part))
	}
}

func serveBlobs(ctx context.Context, group *errgroup.Group, host *netlab.Host, port uint16) error {
	listeners, err := listenBoth(ctx, host, port)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(blob), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	for _, ln := range listeners {
		group.Go(func() error {
			if err := server.Serve(ln); ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve pages: %w", err)
			}
			return nil
		})
	}
	return nil
}

func (p *Player) servePages(ctx context.Context, group *errgroup.Group) error {
	return serveBlobs(ctx, group, p.Watched, WebPort)
}

func (p *Player) serveMirror(ctx context.Context, group *errgroup.Group) error {
	return serveBlobs(ctx, group, p.Services, mirrorPort)
}

// visit reads a page and the objects on it over one connection, and at times
// sends a form.
func (p *Player) visit(source, target netip.Addr) func(context.Context, *rand.Rand) error {
	return func(ctx context.Context, dice *rand.Rand) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		transport := &http.Transport{DialContext: p.Client.Dialer(source)}
		defer transport.CloseIdleConnections()
		for range 1 + dice.IntN(6) {
			var form io.Reader
			method := http.MethodGet
			if dice.IntN(8) == 0 {
				method, form = http.MethodPost, strings.NewReader(strings.Repeat("x", size(dice, 600, 1, 20_000)))
			}
			n, err := fetch(ctx, transport, method, netip.AddrPortFrom(target, WebPort), size(dice, 15_000, 1.3, 1_000_000), form, 0)
			p.Counts.PageBytes.Add(n)
			if err != nil {
				return err
			}
			p.Counts.Pages.Add(1)
			if err := sleep(ctx, time.Duration(dice.IntN(400))*time.Millisecond); err != nil {
				return nil // the visitor left in the middle of a page
			}
		}
		return nil
	}
}

// download fetches an update to the watched host.
func (p *Player) download(ctx context.Context, dice *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: p.Watched.Dialer(netip.Addr{})}
	defer transport.CloseIdleConnections()
	mirror := netip.AddrPortFrom(p.Services.IPv4[0], mirrorPort)
	if _, err := fetch(ctx, transport, http.MethodGet, mirror, size(dice, 8<<20, 0.7, maxBody), nil, 8<<20); err != nil {
		return err
	}
	p.Counts.Downloads.Add(1)
	return nil
}

// fetch asks for want bytes and reads them, at no more than rate bytes a second
// if rate is above 0. It returns how many came.
func fetch(ctx context.Context, transport http.RoundTripper, method string, target netip.AddrPort, want int, body io.Reader, rate int) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s/%d", target, want), body)
	if err != nil {
		return 0, err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return 0, fmt.Errorf("fetch page: %w", err)
	}
	defer res.Body.Close()
	var total int64
	for {
		n, err := io.CopyN(io.Discard, res.Body, 256<<10)
		total += n
		switch {
		case errors.Is(err, io.EOF) && total == int64(want):
			return total, nil
		case err != nil:
			return total, fmt.Errorf("read page: %w", err)
		}
		if rate > 0 {
			if err := sleep(ctx, time.Duration(n)*time.Second/time.Duration(rate)); err != nil {
				return total, err
			}
		}
	}
}
