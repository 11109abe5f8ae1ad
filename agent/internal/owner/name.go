package owner

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ebbwatch/ebbwatch"
)

// printable returns s with each byte that is not part of a printable character
// of UTF-8 replaced by "?", cut to what a record may carry. Processes choose
// their names, and users those of their units.
func printable(s string) string {
	hostile := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if len(s) <= ebbwatch.MaxName && !strings.ContainsFunc(s, hostile) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if b.Len()+size > ebbwatch.MaxName {
			break
		}
		if hostile(r) {
			b.WriteString(strings.Repeat("?", size))
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// comm returns the process name in the kernel's 16 bytes.
func comm(b []byte) string {
	if i := strings.IndexByte(string(b), 0); i >= 0 {
		b = b[:i]
	}
	return printable(string(b))
}
