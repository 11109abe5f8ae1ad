package verify

import (
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
)

type tokenKind uint8

const (
	tokenWord     tokenKind = iota
	tokenHost               // {subject}, {src}, {dst}, {host} or a pseudonym
	tokenQuantity           // {value}, {baseline}, {ratio} or a number with its unit
	tokenMetric             // {metric}
	tokenMark               // , ; : ( ) or the full stop
)

// role is what a quantity stands for.
type role uint8

const (
	roleNone role = iota
	roleValue
	roleBaseline
	roleRatio
)

type token struct {
	kind  tokenKind
	text  string // as written, words in lower case
	raw   string // a word as written
	space bool   // preceded by white space
	host  string // pseudonym
	slot  role   // of a quantity slot; roleNone for a number
	num   float64
	unit  string  // canonical unit written after a number, "" if none
	digit float64 // weight of the last digit of num
}

// lexeme matches, in this order: slots, pseudonyms, numbers with an optional unit, words, marks.
var lexeme = regexp.MustCompile(`^(?:(\{[a-z]+\})|(host-[0-9a-f]{4}(?:-[0-9a-f]{4})*\b)|([0-9][0-9,]*(?:\.[0-9]+)?)(?: ?(%|[kMGTPE]?B/s|[kMGTPE]?B|us|ms|s|min|h|d|k|M|G)\b|( ?%))?|([A-Za-z][A-Za-z'/-]*)|([,;:().×]))`)

// scan cuts text into tokens. It refuses what is not one short sentence of
// printable ASCII.
func scan(f Fact, text string) ([]token, error) {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxText {
		return nil, refuse(Malformed, "%d bytes", len(text))
	}
	var tokens []token
	for space := false; text != ""; {
		if text[0] == ' ' {
			text, space = text[1:], true
			continue
		}
		m := lexeme.FindStringSubmatch(text)
		if m == nil {
			return nil, refuse(Malformed, "unexpected character")
		}
		t, err := tokenOf(f, m)
		if err != nil {
			return nil, err
		}
		t.space = space
		tokens, text, space = append(tokens, t), text[len(m[0]):], false
		if t.text == "." && text != "" {
			return nil, refuse(Malformed, "more than one sentence")
		}
	}
	return tokens, nil
}

func tokenOf(f Fact, m []string) (token, error) {
	switch slot, host, number, word := m[1], m[2], m[3], m[6]; {
	case slot != "":
		return slotToken(f, slot)
	case host != "":
		if host != f.Src && host != f.Dst && host != f.Host {
			return token{}, refuse(WrongRole, "a host that the evidence is not about")
		}
		return token{kind: tokenHost, text: host, host: host}, nil
	case number != "":
		return numberToken(m[0], number, strings.TrimSpace(m[4]+m[5]))
	case word != "":
		return token{kind: tokenWord, text: strings.ToLower(word), raw: word}, nil
	default:
		if m[7] == "×" {
			return token{kind: tokenWord, text: "times", raw: "times"}, nil
		}
		return token{kind: tokenMark, text: m[7]}, nil
	}
}

func slotToken(f Fact, slot string) (token, error) {
	hosts := map[string]string{"{subject}": f.Subject(), "{src}": f.Src, "{dst}": f.Dst, "{host}": f.Host}
	roles := map[string]role{"{value}": roleValue, "{baseline}": roleBaseline, "{ratio}": roleRatio}
	if host, ok := hosts[slot]; ok {
		if host == "" {
			return token{}, refuse(WrongRole, "the evidence has no such host")
		}
		return token{kind: tokenHost, text: slot, host: host}, nil
	}
	if r, ok := roles[slot]; ok {
		return token{kind: tokenQuantity, text: slot, slot: r}, nil
	}
	if slot == "{metric}" {
		return token{kind: tokenMetric, text: slot}, nil
	}
	return token{}, refuse(Malformed, "unknown slot")
}

// numberToken reads a number, its unit, and the weight of its last digit.
func numberToken(whole, number, unit string) (token, error) {
	digits := strings.ReplaceAll(number, ",", "")
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return token{}, refuse(Malformed, "unreadable number")
	}
	digit := 1.0
	if _, decimals, ok := strings.Cut(digits, "."); ok {
		digit = math.Pow10(-len(decimals))
	}
	scale, canonical := unitOf(unit)
	return token{kind: tokenQuantity, text: whole, num: v * scale, unit: canonical, digit: digit * scale}, nil
}

// unitOf returns the scale and the canonical unit of a unit as written.
func unitOf(unit string) (float64, string) {
	switch unit {
	case "":
		return 1, ""
	case "%":
		return 1, human.Percent
	case "us":
		return 1e-6, human.Seconds
	case "ms":
		return 1e-3, human.Seconds
	case "s":
		return 1, human.Seconds
	case "min":
		return 60, human.Seconds
	case "h":
		return 3600, human.Seconds
	case "d":
		return 86400, human.Seconds
	}
	scale := 1.0
	base := unit
	if i := strings.IndexByte("kMGTPE", unit[0]); i >= 0 {
		scale, base = math.Pow(1000, float64(i+1)), unit[1:]
	}
	switch base {
	case "B":
		return scale, human.Bytes
	case "B/s":
		return scale, "bytes/s"
	}
	return scale, ""
}
