package human

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes text from outside fit for one line on a screen: at most limit
// runes, no control characters, no characters that reorder or hide others
// (they become visible escapes like \u202e). It does not escape for any format.
func Clean(text string, limit int) string {
	return clean(text, limit, false)
}

// CleanBlock is Clean for text of several lines: line feeds and tabs stay.
func CleanBlock(text string, limit int) string {
	return clean(text, limit, true)
}

func clean(text string, limit int, block bool) string {
	var b strings.Builder
	n := 0
	for len(text) > 0 {
		if n == limit {
			b.WriteString("…")
			break
		}
		n++
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size <= 1:
			b.WriteRune(utf8.RuneError)
		case block && (r == '\n' || r == '\t'):
			b.WriteRune(r)
		case hides(r):
			escaped := strconv.QuoteRuneToASCII(r)
			b.WriteString(escaped[1 : len(escaped)-1])
		default:
			b.WriteRune(r)
		}
		text = text[size:]
	}
	return b.String()
}

// hides tells whether r is invisible or changes how its neighbours look: control
// and format characters (bidirectional overrides, zero-width), private use,
// line and paragraph separators, and combining marks, which can be stacked.
func hides(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp, unicode.Mn, unicode.Me)
}

const markdownSpecial = "\\`*_{}[]<>()#+-.!|~&$@:/=\"'"

// Markdown escapes one line of hostile text so that no Markdown renderer finds
// markup, links, mentions or HTML in it.
func Markdown(text string, limit int) string {
	text = Clean(text, limit)
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '<':
			b.WriteString("&lt;") // a backslash does not stop every renderer from passing HTML on
		case r == '>':
			b.WriteString("&gt;")
		case r == '&':
			b.WriteString("&amp;")
		case r == '@':
			b.WriteString("@\u2060") // word joiner: @everyone mentions nobody
		case r == ':' && strings.HasPrefix(text[i:], "://"), r == 'w' && strings.HasPrefix(text[i:], "www."):
			b.WriteString(string(r) + "\u2060") // bare addresses do not become links
		case strings.ContainsRune(markdownSpecial, r) && !plain(r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// plain tells whether r is harmless in the middle of a line, where every text
// of ours stands, and so frequent that escaping it would make text unreadable.
func plain(r rune) bool { return strings.ContainsRune(".-:/()+='\"", r) }

// Fence returns text as a fenced Markdown code block that text cannot leave.
func Fence(text, language string) string {
	text = strings.TrimRight(CleanBlock(text, 8192), "\n")
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + language + "\n" + text + "\n" + fence + "\n"
}
