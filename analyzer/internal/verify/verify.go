// Package verify decides which sentences of a language model may be delivered.
//
// A claim is a typed assertion about one evidence row: its value lies above or
// below its baseline, or is merely stated. Metric and subject follow from the row,
// so the model is not asked for them; code evaluates the relation. The sentence
// that goes with it may say no more than the assertion does: it names the subject
// and what was measured, it is written in a closed vocabulary, values, hosts and
// the metric in it are slots that code fills (or literals that must equal them),
// and each must stand where the words around it give it the role that it has in
// the evidence. What this grammar does not cover is refused, however true it may be.
package verify

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
)

// Fact is one evidence row as the model sees it. Src, Dst and Host are
// pseudonyms, "" where the finding is not about one.
type Fact struct {
	ID             string // e1, e2, …
	Kind           string // kind of the finding
	Metric         string
	Unit           string
	Value          float64
	Baseline       *float64
	Src, Dst, Host string
}

// Relations that a claim may assert.
const (
	Is    = "is"             // the value is stated
	Above = "above_baseline" // the value is greater than the baseline
	Below = "below_baseline" // the value is less than the baseline
)

// Relations lists the relations that hold for f.
func (f Fact) Relations() []string {
	holding := []string{Is}
	for _, relation := range []string{Above, Below} {
		if f.holds(relation) {
			holding = append(holding, relation)
		}
	}
	return holding
}

// holds evaluates a relation.
func (f Fact) holds(relation string) bool {
	switch relation {
	case Is:
		return true
	case Above:
		return f.Baseline != nil && f.Value > *f.Baseline
	case Below:
		return f.Baseline != nil && f.Value < *f.Baseline
	}
	return false
}

// Subject returns the host that f is about: the one that acts, else the one that
// receives, else the one that was watched.
func (f Fact) Subject() string { return cmp.Or(f.Src, f.Dst, f.Host) }

// Claim is what the model asserts.
type Claim struct {
	Evidence string `json:"evidence_id"`
	Relation string `json:"relation"`
	Text     string `json:"text"`
}

// Sentence is a claim that holds, with its slots filled.
type Sentence struct {
	Text     string
	Evidence string
}

// Reason says why a claim was refused. Reasons are few, for use as a metric label.
type Reason string

// The reasons.
const (
	UnknownEvidence Reason = "unknown_evidence" // not an id that exists
	FalseRelation   Reason = "false_relation"   // the evidence says otherwise, or has no baseline
	Malformed       Reason = "malformed"        // not one short plain sentence
	NoValue         Reason = "no_value"         // does not state the value
	NoSubject       Reason = "no_subject"       // does not name the subject
	NoMetric        Reason = "no_metric"        // does not say what was measured
	WrongNumber     Reason = "wrong_number"     // a number that the evidence does not hold there
	WrongRole       Reason = "wrong_role"       // a host in a role that it does not have
	Negation        Reason = "negation"
	Cause           Reason = "cause"
	Blame           Reason = "blame"
	Advice          Reason = "advice"
	UnknownWord     Reason = "unknown_word" // a word that says more than the assertion
	Repeated        Reason = "repeated"     // a second claim about the same evidence
	TooMany         Reason = "too_many"
)

// MaxClaims is the number of claims looked at.
const MaxClaims = 6

const maxText = 300 // bytes of a claim's text

// refusal is the error of a check.
type refusal struct {
	reason Reason
	detail string
}

func (r *refusal) Error() string { return string(r.reason) + ": " + r.detail }

func refuse(reason Reason, format string, args ...any) error {
	return &refusal{reason, fmt.Sprintf(format, args...)}
}

// Claims returns the claims that hold, in their order, and counts the others by
// reason. reveal turns a pseudonym into the name that the reader may see.
func Claims(facts []Fact, claims []Claim, reveal func(pseudonym string) string) ([]Sentence, map[Reason]int) {
	refused := map[Reason]int{}
	if extra := len(claims) - MaxClaims; extra > 0 {
		refused[TooMany] = extra
		claims = claims[:MaxClaims]
	}
	var held []Sentence
	said := map[string]bool{}
	for _, c := range claims {
		s, err := Check(facts, c, reveal)
		switch {
		case err != nil:
			refused[ReasonOf(err)]++
		case said[s.Evidence]:
			refused[Repeated]++
		default:
			said[s.Evidence] = true
			held = append(held, s)
		}
	}
	return held, refused
}

// ReasonOf returns the reason in an error of Check.
func ReasonOf(err error) Reason {
	var r *refusal
	if errors.As(err, &r) {
		return r.reason
	}
	return Malformed
}

// Check evaluates one claim. Its error has a Reason.
func Check(facts []Fact, c Claim, reveal func(pseudonym string) string) (Sentence, error) {
	fact, err := cited(facts, c.Evidence)
	if err != nil {
		return Sentence{}, err
	}
	if !fact.holds(c.Relation) {
		return Sentence{}, refuse(FalseRelation, "%s does not say so", fact.ID)
	}
	tokens, err := scan(fact, c.Text)
	if err != nil {
		return Sentence{}, err
	}
	s := sentence{fact: fact, claim: c, tokens: tokens}
	for _, check := range []func() error{s.words, s.quantities, s.comparison, s.hosts, s.metric, s.whole} {
		if err := check(); err != nil {
			return Sentence{}, err
		}
	}
	return Sentence{Text: s.fill(reveal), Evidence: fact.ID}, nil
}

func cited(facts []Fact, id string) (Fact, error) {
	for _, f := range facts {
		if f.ID == id {
			return f, nil
		}
	}
	return Fact{}, refuse(UnknownEvidence, "no such row")
}

// Amount writes the value of f as the model and the reader see it.
func (f Fact) Amount() string { return human.Value(f.Value, f.Unit) }

// Usual writes the baseline of f, "" if it has none.
func (f Fact) Usual() string {
	if f.Baseline == nil {
		return ""
	}
	return human.Value(*f.Baseline, f.Unit)
}

// Times writes how many times the baseline the value is, "" if that says nothing.
func (f Fact) Times() string {
	if f.Baseline == nil {
		return ""
	}
	return human.Times(f.Value, *f.Baseline)
}

// fill puts values and names into the slots and capitalises the sentence.
func (s *sentence) fill(reveal func(string) string) string {
	var b strings.Builder
	for i, t := range s.tokens {
		if s.redundant(i) {
			continue
		}
		text := t.text
		switch t.kind {
		case tokenWord:
			text = t.raw
		case tokenHost:
			text = reveal(t.host)
		case tokenQuantity:
			text = s.amount(i)
		case tokenMetric:
			text = s.name(i)
		}
		if i > 0 && t.space {
			b.WriteByte(' ')
		}
		b.WriteString(text)
	}
	text := b.String()
	if s.tokens[0].kind == tokenWord || s.tokens[0].kind == tokenMetric {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}
