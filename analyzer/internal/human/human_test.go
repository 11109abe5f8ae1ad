package human

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestValue(t *testing.T) {
	for _, c := range []struct {
		value      float64
		unit, want string
	}{
		{0, "bytes", "0 B"}, {999, "bytes", "999 B"}, {999.6, "bytes", "1 kB"}, {1_234_567_890, "bytes", "1.23 GB"},
		{40213, "packets", "40,213 packets"}, {1234567, "packets", "1.23 M packets"}, {0.5, "ratio", "0.5"},
		{0.00001, "1", "1.0e-05"}, {97.25, "%", "97.2 %"}, {5, "s", "5 s"}, {0.25, "s", "250 ms"}, {3725, "s", "1 h 2 min"},
		{90061, "seconds", "1 d 1 h"}, {math.NaN(), "bytes", "unknown"}, {math.Inf(1), "packets", "unknown packets"},
		{-5, "packets", "-5 packets"}, {1e18, "bytes", "1 EB"}, {2500, "bytes/s", "2.5 kB/s"}, {12.5, "ms", "12.5 ms"},
		{101, "ports", "101 ports"}, {1, "hosts", "1 host"}, {1, "packets/s", "1 packets/s"}, {0.012345, "", "0.0123"}, {1e20, "packets", "1.00e+20 packets"},
	} {
		if got := Value(c.value, c.unit); got != c.want {
			t.Errorf("Value(%v, %q) = %q, want %q", c.value, c.unit, got, c.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 1500 * time.Millisecond: "1.5 s", 65 * time.Second: "1 min 5 s", time.Hour: "1 h",
		24*time.Hour + 3*time.Minute: "1 d", 26 * time.Hour: "1 d 2 h", -time.Minute: "-1 min",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestCleanShowsWhatHides(t *testing.T) {
	if got, want := Clean("a\x00b\u202ec\nd\u200b\xff", 100), `a\x00b\u202ec\nd\u200b`+"\ufffd"; got != want {
		t.Errorf("Clean = %q, want %q", got, want)
	}
	if got := Clean("äöü", 2); got != "äö…" {
		t.Errorf("Clean cut to %q", got)
	}
}

func TestMarkdownEscapesMarkup(t *testing.T) {
	got := Markdown("<script>[x](http://evil) **b** `c` @everyone | www.evil", 200)
	for _, bad := range []string{"<script>", "[x](", "**b**", " `c`", "@everyone", " | ", "http://", "www.evil"} {
		if strings.Contains(strings.ReplaceAll(got, `\`+bad, ""), bad) && !strings.Contains(got, `\`+strings.TrimSpace(bad)) {
			t.Errorf("%q survives in %q", bad, got)
		}
	}
	if got := Markdown("10.9.0.2:443", 50); got != "10.9.0.2:443" {
		t.Errorf("an address became %q", got)
	}
}

func TestFenceCannotBeLeft(t *testing.T) {
	got := Fence("SELECT '```\n````'", "sql")
	if !strings.HasPrefix(got, "`````sql\n") || !strings.HasSuffix(got, "\n`````\n") {
		t.Errorf("Fence = %q", got)
	}
}
