package verify

import (
	"regexp"
	"strings"
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
