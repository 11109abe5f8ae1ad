package app

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

// The time between two states of the bar, on a terminal and elsewhere.
const (
	barInterval  = 200 * time.Millisecond
	lineInterval = 5 * time.Second
)

// bar shows the progress of an import: on a terminal one line that is
// overwritten, elsewhere a line every few seconds.
type bar struct {
	out      io.Writer
	terminal bool
	now      func() time.Time
	shown    time.Time // when last
	began    time.Time // when storing did
	from     uint64    // records that were stored then
}

func newBar(out io.Writer, now func() time.Time) *bar {
	b := &bar{out: out, now: now, shown: now()}
	if f, ok := out.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		b.terminal = err == nil
	}
	return b
}

func (b *bar) show(p importer.Progress) {
	now := b.now()
	if !p.Survey && b.began.IsZero() {
		b.began, b.from = now, p.Done
	}
	interval := lineInterval
	if b.terminal {
		interval = barInterval
	}
	if now.Sub(b.shown) < interval {
		return
	}
	b.shown = now
	text := fmt.Sprintf("looking through file %d of %d, %s: %d records", p.Index+1, p.Of, cli.Visible(filepath.Base(p.File)), p.Done)
	if !p.Survey {
		text = b.storing(p, now)
	}
	if b.terminal {
		fmt.Fprintf(b.out, "\r\x1b[K%.110s", text)
	} else {
		fmt.Fprintln(b.out, text)
	}
}

func (b *bar) storing(p importer.Progress, now time.Time) string {
	const width = 24
	share := float64(p.Done) / float64(max(p.Total, 1))
	full := min(int(share*width), width)
	text := fmt.Sprintf("[%s%s] %3.0f %%  %d of %d records", strings.Repeat("#", full), strings.Repeat(".", width-full), 100*share, p.Done, p.Total)
	if seconds := now.Sub(b.began).Seconds(); seconds > 1 && p.Done > b.from {
		rate := float64(p.Done-b.from) / seconds
		left := time.Duration(float64(p.Total-p.Done) / rate * float64(time.Second))
		text += fmt.Sprintf("  %.0f/s  %s left", rate, left.Round(time.Second))
	}
	return text
}

// clear removes the bar from a terminal.
func (b *bar) clear() {
	if b.terminal {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}
