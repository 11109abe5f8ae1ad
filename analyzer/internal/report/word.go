package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/verify"
)

// Worder words established facts. It gets pseudonyms and numbers, never a name
// that was observed.
type Worder interface {
	// Name returns the model's name, for the reader of the report.
	Name() string
	// Word returns claims about req. It bounds its own time. An error may have a
	// method Note() string with a few words for the reader.
	Word(ctx context.Context, req Request) (Answer, error)
}

// Request is what a worder may know.
type Request struct {
	Facts []verify.Fact
	Steps []Step
}

// Answer is what a worder says; nothing in it is trusted.
type Answer struct {
	Claims    []verify.Claim `json:"claims"`
	NextSteps []string       `json:"next_steps"` // ids of steps, most urgent first
}

const maxFacts = 24

// word adds the worder's verified claims to r, and otherwise a note that says
// why there are none.
func (b *Builder) word(ctx context.Context, r *Report, steps []Step) {
	setNext(r, steps, nil)
	if b.worder == nil {
		return
	}
	scope := b.names.scope()
	facts := factsOf(r, scope)
	if len(facts) == 0 {
		r.Note = "there is no evidence that a model could word"
		return
	}
	answer, err := b.worder.Word(ctx, Request{Facts: facts, Steps: steps})
	if err != nil {
		b.log.Warn("the model did not word a report", "report", r.ID, "error", err)
		r.Note = noteOf(err)
		return
	}
	held, refused := verify.Claims(facts, answer.Claims, scope.reveal)
	dropped := 0
	for reason, n := range refused {
		b.dropped.WithLabelValues(string(reason)).Add(float64(n))
		dropped += n
	}
	if dropped > 0 {
		r.Note = droppedNote(dropped, len(held), refused)
	}
	if len(held) == 0 {
		if dropped == 0 {
			r.Note = "the model made no claims"
		}
		return
	}
	r.Author = b.worder.Name()
	for _, s := range held {
		r.Claims = append(r.Claims, Claim{Text: s.Text, Evidence: []string{s.Evidence}})
	}
	setNext(r, steps, answer.NextSteps)
}

// setNext lists every step, those that the model chose first.
func setNext(r *Report, steps []Step, chosen []string) {
	ordered := slices.Clone(steps)
	rank := func(s Step) int {
		if i := slices.Index(chosen, s.ID); i >= 0 {
			return i
		}
		return len(chosen)
	}
	slices.SortStableFunc(ordered, func(a, b Step) int { return cmp.Compare(rank(a), rank(b)) })
	r.Next = make([]string, 0, len(ordered))
	for _, s := range ordered {
		r.Next = append(r.Next, s.Text)
	}
}

func noteOf(err error) string {
	var noted interface{ Note() string }
	if errors.As(err, &noted) {
		return noted.Note()
	}
	return "the model could not be used"
}

func droppedNote(dropped, held int, refused map[verify.Reason]int) string {
	var why []string
	for _, reason := range slices.Sorted(maps.Keys(refused)) {
		why = append(why, fmt.Sprintf("%s %d", strings.ReplaceAll(string(reason), "_", " "), refused[reason]))
	}
	if held == 0 {
		return fmt.Sprintf("the model's words were not used: %s could not be verified (%s)", allOf(dropped), strings.Join(why, ", "))
	}
	return fmt.Sprintf("%s of the model could not be verified and was left out (%s)", plural(dropped, "claim", "claims"), strings.Join(why, ", "))
}

func allOf(n int) string {
	if n == 1 {
		return "its only claim"
	}
	return fmt.Sprintf("all %d claims", n)
}

// codeName is what metrics, kinds and units of ours look like. Anything else in
// their place was not written by us and stays here.
var codeName = regexp.MustCompile(`^[a-z%][a-z0-9_/%]{0,47}$`)

// factsOf hides the hosts of r's evidence behind pseudonyms.
func factsOf(r *Report, names *scope) []verify.Fact {
	var facts []verify.Fact
	for _, row := range Rows(r.Findings) {
		if len(facts) == maxFacts {
			break
		}
		unit := human.Unit(row.Unit)
		if !codeName.MatchString(row.Metric) || !codeName.MatchString(unit) || !codeName.MatchString(row.Finding.Kind) {
			continue
		}
		e := row.Finding.Entity
		facts = append(facts, verify.Fact{
			ID: row.Ref, Kind: row.Finding.Kind, Metric: row.Metric, Unit: unit, Value: row.Value, Baseline: row.Baseline,
			Src: names.hide(e.Src), Dst: names.hide(e.Dst), Host: names.hide(e.Host),
		})
	}
	return facts
}
