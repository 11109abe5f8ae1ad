package verify

import (
	"math"
	"slices"
	"strings"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
)

// sentence is a claim under examination.
type sentence struct {
	fact   Fact
	claim  Claim
	tokens []token
	roles  []role // of the quantities, by token
}

// words refuses every word that is neither in the vocabulary nor of the metric.
func (s *sentence) words() error {
	nouns, active, receive := wordsOf(s.fact)
	relation := lexicon{}
	switch s.claim.Relation {
	case Above:
		relation = above
	case Below:
		relation = below
	}
	unknown := error(nil)
	for _, t := range s.tokens {
		w := t.text
		if t.kind != tokenWord || neutral[w] || nouns[w] || active[w] || receive[w] || relation[w] || s.claim.Relation != Is && compare[w] {
			continue
		}
		switch reason := refusalOf(w); {
		case reason != UnknownWord:
			return refuse(reason, "the word %q", w)
		case above[w] || below[w] || compare[w]:
			return refuse(FalseRelation, "the word %q", w)
		case unknown == nil:
			unknown = refuse(UnknownWord, "the word %q", w)
		}
	}
	return unknown
}

// metric refuses a sentence that leaves out what was measured. It stands as a slot
// or in words, of which those that the unit or a verb say as well may be missing:
// "{src} probed {value}" for the distinct ports tried. Of targets that failed it
// must say that they failed.
func (s *sentence) metric() error {
	said, verb := lexicon{}, false
	_, active, receive := wordsOf(s.fact)
	for _, t := range s.tokens {
		switch t.kind {
		case tokenMetric:
			return nil
		case tokenWord:
			verb = verb || active[t.text] || receive[t.text]
			for part := range strings.SplitSeq(t.text, "-") {
				said[part], said[part+"s"] = true, true
			}
		}
	}
	name, unit := nameWords(s.fact.Metric), nameWords(human.Unit(s.fact.Unit))
	for _, w := range name {
		if !said[w] && !impliedWords[w] && !slices.Contains(unit, w) && (!verb || !direction[w]) {
			return refuse(NoMetric, "the word %q is missing", w)
		}
	}
	if !verb && !slices.ContainsFunc(name, func(w string) bool { return said[w] }) {
		return refuse(NoMetric, "neither its name nor a verb")
	}
	return nil
}

// whole refuses what is no sentence: nothing that could be its verb, or the same
// thing twice in a row.
func (s *sentence) whole() error {
	_, active, receive := wordsOf(s.fact)
	verb, metrics := false, 0
	for i, t := range s.tokens {
		if t.kind == tokenMetric {
			metrics++
		}
		if i > 0 && t.kind == s.tokens[i-1].kind && t.text == s.tokens[i-1].text || metrics > 1 {
			return refuse(Malformed, "%s twice", t.text)
		}
		verb = verb || t.kind == tokenWord && (finite[t.text] || active[t.text] || receive[t.text])
	}
	if !verb {
		return refuse(Malformed, "no verb")
	}
	return nil
}

// quantities gives each number and slot the role that the words around it give
// it, and refuses it if the evidence holds another number in that role. The
// value stands exactly once; baseline and ratio at most once.
func (s *sentence) quantities() error {
	s.roles = make([]role, len(s.tokens))
	seen := map[role]int{}
	after := false // a marker of the baseline stands between the last quantity and here
	for i, t := range s.tokens {
		if t.kind == tokenWord && marker[t.text] || s.isWord(i-1, "against") && t.kind == tokenQuantity {
			after = true
		}
		if t.kind != tokenQuantity {
			continue
		}
		r := roleValue
		switch {
		case s.wordAt(i+1, timesWord):
			r = roleRatio
		case t.slot == roleRatio: // written with "times" by fill
			r = roleRatio
		case after:
			r = roleBaseline
		}
		if t.slot != roleNone && t.slot != r {
			return refuse(WrongNumber, "%s where another number belongs", t.text)
		}
		if err := s.equals(t, r); err != nil {
			return err
		}
		s.roles[i], after = r, false
		seen[r]++
	}
	switch {
	case seen[roleValue] == 0:
		return refuse(NoValue, "no value")
	case seen[roleValue] > 1 || seen[roleBaseline] > 1 || seen[roleRatio] > 1:
		return refuse(WrongNumber, "a number twice")
	case s.claim.Relation == Is && (seen[roleBaseline] > 0 || seen[roleRatio] > 0):
		return refuse(FalseRelation, "a comparison that is not asserted")
	}
	return nil
}

// equals refuses t if it is not what the evidence holds in role r. A number may
// be rounded, to no fewer than two significant digits.
func (s *sentence) equals(t token, r role) error {
	var want float64
	unit := human.Unit(s.fact.Unit)
	switch r {
	case roleValue:
		want = s.fact.Value
	case roleBaseline:
		if s.fact.Baseline == nil {
			return refuse(WrongNumber, "no baseline")
		}
		want = *s.fact.Baseline
	default:
		if s.fact.Times() == "" {
			return refuse(WrongNumber, "no ratio")
		}
		want, unit = s.fact.Value / *s.fact.Baseline, human.Ratio
	}
	if t.slot != roleNone {
		return nil
	}
	if t.unit != "" && t.unit != unit {
		return refuse(WrongNumber, "a number in another unit")
	}
	if d := math.Abs(t.num - want); d > 1e-9*math.Abs(want) && (d > t.digit/2*(1+1e-9) || t.num < 10*t.digit) {
		return refuse(WrongNumber, "a number that the evidence does not hold")
	}
	return nil
}

// comparison refuses comparisons that say more than the relation: a difference
// ("5 packets more than usual"), or the usual without a relation to it ("5 packets is usual").
func (s *sentence) comparison() error {
	nouns, _, _ := wordsOf(s.fact)
	related, pending := false, false
	for i, t := range s.tokens {
		if t.kind == tokenQuantity && (s.roles[i] == roleRatio || s.roles[i] == roleBaseline) {
			related, pending = related || s.roles[i] == roleRatio, false
		}
		if t.kind != tokenWord {
			continue
		}
		if above[t.text] || below[t.text] {
			back := i - 1
			for back >= 0 && s.tokens[back].kind == tokenWord && nouns[s.tokens[back].text] {
				back--
			}
			if back >= 0 && s.tokens[back].kind == tokenQuantity {
				return refuse(WrongNumber, "a difference that is not in the evidence")
			}
			related = true
		}
		if marker[t.text] && !related {
			pending = true
		}
	}
	if pending {
		return refuse(FalseRelation, "the usual without a relation to it")
	}
	if s.claim.Relation != Is && s.claim.Relation == Below && s.has(roleRatio) {
		return refuse(FalseRelation, "times the usual for a value below it")
	}
	return nil
}

// hosts refuses a host in a role that the evidence does not give it: the source
// acts and stands after "from" and "by"; the destination receives and stands
// after "to", "on" and "against".
func (s *sentence) hosts() error {
	_, active, receive := wordsOf(s.fact)
	named := false
	acts := slices.ContainsFunc(s.tokens, func(t token) bool { return t.kind == tokenWord && (active[t.text] || receive[t.text]) })
	last, verb := "", false // the host before this token; whether an active verb waits for its object
	for i, t := range s.tokens {
		switch {
		case t.kind == tokenHost:
			named = named || t.host == s.fact.Subject()
			want := t.host
			switch {
			case s.wordAt(i-1, srcPreposition):
				want = s.fact.Src
			case s.wordAt(i-1, dstPreposition) && !(s.wordAt(i-1, words("on at")) && t.host == s.fact.Host):
				want = s.fact.Dst
			case verb:
				want = s.fact.Dst
			case !acts && s.isWord(i-1, "of"):
				want = s.fact.Subject() // whose value it is
			}
			if t.host != want {
				return refuse(WrongRole, "%s is not that", t.host)
			}
			last, verb = t.host, false
		case t.kind != tokenWord || s.inName(i):
		case active[t.text] && receive[t.text]:
			return refuse(WrongRole, "a verb of two meanings")
		case active[t.text]:
			want := s.fact.Src
			if s.wordAt(i-1, passive) {
				want = s.fact.Dst
			} else {
				verb = true
			}
			if last != "" && last != want {
				return refuse(WrongRole, "%s did not do that", last)
			}
		case receive[t.text]:
			if s.wordAt(i-1, passive) || last != "" && last != s.fact.Dst {
				return refuse(WrongRole, "%s did not receive that", last)
			}
		case srcPreposition[t.text] || dstPreposition[t.text]:
			verb = false
		}
	}
	if !named {
		return refuse(NoSubject, "the subject is not named")
	}
	return nil
}

// inName tells whether the word at token i continues the metric's name, as "tried"
// does in "distinct ports tried": there it is no verb.
func (s *sentence) inName(i int) bool {
	name := nameWords(s.fact.Metric)
	at := slices.Index(name, s.tokens[i].text)
	return at > 0 && s.isWord(i-1, name[at-1])
}

func (s *sentence) has(r role) bool {
	for _, have := range s.roles {
		if have == r {
			return true
		}
	}
	return false
}

func (s *sentence) isWord(i int, word string) bool {
	return i >= 0 && i < len(s.tokens) && s.tokens[i].kind == tokenWord && s.tokens[i].text == word
}

func (s *sentence) wordAt(i int, set lexicon) bool {
	return i >= 0 && i < len(s.tokens) && s.tokens[i].kind == tokenWord && set[s.tokens[i].text]
}

// amount writes the quantity at token i as the report writes it: also where the
// model wrote a number itself. The unit is left out where the sentence has it.
func (s *sentence) amount(i int) string {
	text := s.fact.Amount()
	switch s.roles[i] {
	case roleBaseline:
		text = s.fact.Usual()
	case roleRatio:
		if s.wordAt(i+1, timesWord) {
			return s.fact.Times()
		}
		return s.fact.Times() + " times"
	}
	if i+1 < len(s.tokens) && s.tokens[i+1].kind == tokenMetric {
		if unit, _, _ := strings.Cut(human.Unit(s.fact.Unit), "/"); unit != human.Bytes && slices.Contains(nameWords(s.fact.Metric), unit) {
			text, _, _ = strings.Cut(text, " "+strings.TrimSuffix(unit, "s")) // the name has it
		}
	}
	for next := i + 1; next < min(i+4, len(s.tokens)) && s.tokens[next].kind == tokenWord; next++ {
		if cut, ok := strings.CutSuffix(text, " "+s.tokens[next].text); ok {
			return cut
		}
	}
	return text
}

// name writes the metric at token i: "rate of half-open connections" after an
// article, where a noun must stand that a value can be given for, else as it is.
func (s *sentence) name(i int) string {
	name := s.fact.Name()
	if i > 0 && !s.wordAt(i-1, articles) {
		return name
	}
	if cut, ok := strings.CutSuffix(name, " per second"); ok {
		return "rate of " + cut
	}
	switch unit := human.Unit(s.fact.Unit); {
	case strings.HasPrefix(name, "bytes"):
		return "number of " + name
	case unit == human.Bytes || unit == human.Seconds || unit == human.Ratio || unit == human.Percent || !strings.HasSuffix(unit, "s"):
		return name
	default:
		return "number of " + name // of things that were counted
	}
}

// redundant tells whether the word at token i repeats the unit that the quantity
// before it is written with: "1.23 GB bytes".
func (s *sentence) redundant(i int) bool {
	unit := human.Unit(s.fact.Unit)
	return i > 0 && (unit == human.Bytes || unit == human.Seconds) && s.isWord(i, unit) &&
		s.tokens[i-1].kind == tokenQuantity && s.roles[i-1] != roleRatio
}
