package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
)

// narrator writes what happens, with the time since the start. It is safe for
// concurrent use.
type narrator struct {
	out   io.Writer
	began time.Time

	mu   sync.Mutex
	last time.Time
}

// line writes one line.
func (n *narrator) line(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = time.Now()
	fmt.Fprintf(n.out, "[%5.1f s] %s\n", n.last.Sub(n.began).Seconds(), printable(fmt.Sprintf(format, args...)))
}

// quietFor reports whether nothing was written for d.
func (n *narrator) quietFor(d time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Since(n.last) >= d
}

// block writes text as it came, indented, without what a terminal would obey.
func (n *narrator) block(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = time.Now()
	for line := range strings.Lines(text) {
		fmt.Fprintf(n.out, "    %s\n", printable(strings.TrimRight(line, "\r\n")))
	}
}

// printable drops control characters: reports and logs quote what strangers wrote.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}
