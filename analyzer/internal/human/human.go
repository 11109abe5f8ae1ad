// Package human writes measured values, times and hostile text the way people
// read them: 1.23 GB, 40,213, 2026-01-02 15:04:05 UTC.
package human

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Units that evidence may carry. Any other unit is written after the number as
// it stands.
const (
	Bytes   = "bytes"
	Seconds = "seconds"
	Ratio   = "ratio"
	Percent = "percent"
)

// aliases maps the short forms of units to the canonical ones.
var aliases = map[string]string{
	"b": Bytes, "byte": Bytes, "bytes": Bytes,
	"s": Seconds, "sec": Seconds, "second": Seconds, "seconds": Seconds,
	"%": Percent, "percent": Percent,
	"": Ratio, "1": Ratio, "ratio": Ratio, "fraction": Ratio, "score": Ratio,
}

// Unit returns the canonical name of unit: "s" and "seconds" are the same.
func Unit(unit string) string {
	if u, ok := aliases[strings.ToLower(unit)]; ok {
		return u
	}
	return unit
}

// Value writes v with its unit, to three significant digits where it is scaled.
func Value(v float64, unit string) string {
	switch u := Unit(unit); u {
	case Bytes:
		return scaled(v, "B")
	case "bytes/s", "B/s":
		return scaled(v, "B/s")
	case Seconds:
		return seconds(v)
	case "ms":
		return seconds(v / 1000)
	case Percent:
		return Number(v) + " %"
	case Ratio:
		return Number(v)
	default:
		if v == 1 && !strings.Contains(u, "/") {
			u = strings.TrimSuffix(u, "s")
		}
		return Number(v) + " " + u
	}
}

// Number writes v without a unit: integers with thousands separators up to a
// million, everything else to three significant digits.
func Number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "unknown"
	case a >= 1e15:
		return strconv.FormatFloat(v, 'e', 2, 64)
	case a >= 1e6:
		return strings.TrimSpace(scaled(v, ""))
	case v == math.Trunc(v) || a >= 1000:
		return group(int64(math.Round(v)))
	case a != 0 && a < 0.001:
		return strconv.FormatFloat(v, 'e', 1, 64)
	default:
		return significant(v)
	}
}

// Times writes how many times the baseline a value is, "" where that says nothing.
func Times(v, baseline float64) string {
	r := v / baseline
	if baseline <= 0 || v < 0 || math.IsNaN(r) || math.IsInf(r, 0) {
		return ""
	}
	return Number(r)
}

var prefixes = []string{"", "k", "M", "G", "T", "P", "E"}

// scaled writes v with an SI prefix: 1,230,000,000 bytes are 1.23 GB.
func scaled(v float64, unit string) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "unknown"
	}
	i, a := 0, v
	for math.Abs(a) >= 999.5 && i < len(prefixes)-1 {
		a /= 1000
		i++
	}
	text := significant(a)
	if i == 0 && v == math.Trunc(v) {
		text = group(int64(v))
	}
	return text + " " + prefixes[i] + unit
}

// significant writes v with three significant digits and no trailing zeros.
func significant(v float64) string {
	digits := 2
	for a := math.Abs(v); a >= 10 && digits > 0; a /= 10 {
		digits--
	}
	if a := math.Abs(v); a < 1 && a > 0 {
		digits += int(-math.Floor(math.Log10(a)))
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// group writes v with a comma before every third digit.
func group(v int64) string {
	text := strconv.FormatInt(v, 10)
	sign := ""
	if v < 0 {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

func seconds(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "unknown"
	}
	if a := math.Abs(v); a < 60 {
		switch {
		case v == 0:
			return "0 s"
		case a < 0.001:
			return significant(v*1e6) + " us"
		case a < 1:
			return significant(v*1e3) + " ms"
		}
		return significant(v) + " s"
	}
	if math.Abs(v) > 1e9 {
		return significant(v/86400/365.25) + " years"
	}
	return Duration(time.Duration(v * float64(time.Second)))
}

// Duration writes d in its two largest units: 1 h 5 min.
func Duration(d time.Duration) string {
	if d < 0 {
		return "-" + Duration(-d)
	}
	if d < time.Minute {
		return seconds(d.Seconds())
	}
	d = d.Round(time.Second)
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	var parts []string
	for _, u := range units {
		if n := d / u.size; n > 0 {
			parts = append(parts, strconv.Itoa(int(n))+" "+u.name)
			d %= u.size
		} else if len(parts) > 0 {
			break
		}
		if len(parts) == 2 {
			break
		}
	}
	return strings.Join(parts, " ")
}

// Time writes t in UTC, to the second.
func Time(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// Plural returns "1 finding" or "n findings".
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return group(int64(n)) + " " + many
}
