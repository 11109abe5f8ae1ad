package llm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/verify"
)

// instructions are short, and the example says the most: small models copy.
const instructions = `You word measured rows of a network report, at most %d, the most important first. For each row write one short sentence with slots that code fills:
{subject} {src} {dst} are hosts, {metric} is what was measured, {value} its value, {baseline} the usual one, {ratio} how many times the usual. Use a slot only if the row has it.
Never write numbers or names. State the subject and the value, once each. src acts, dst receives. A sentence without relation "is" may compare with the baseline.
Use plain words: articles, prepositions, was, had, measured, the row's verbs, and above, below, usual, times where it compares. No causes, no advice, no negation, no guesses.
Reply with JSON: {"claims":[{"evidence_id":id,"relation":relation,"text":sentence}],"next_steps":[ids of steps, the most urgent first]}.`

// row is an evidence row as the model sees it: pseudonyms and humanised values.
type row struct {
	ID       string `json:"id"`
	Relation string `json:"relation"`
	Metric   string `json:"metric"`
	Value    string `json:"value"`
	Baseline string `json:"baseline,omitempty"`
	Ratio    string `json:"ratio,omitempty"`
	Src      string `json:"src,omitempty"`
	Dst      string `json:"dst,omitempty"`
	Verbs    string `json:"verbs,omitempty"`
}

func rowOf(f verify.Fact) row {
	r := row{ID: f.ID, Relation: relationOf(f), Metric: f.Name(), Value: f.Amount(), Baseline: f.Usual(), Src: f.Src, Dst: f.Dst}
	if r.Relation == verify.Above {
		r.Ratio = f.Times()
	}
	src, dst := f.Verbs()
	var verbs []string
	if len(src) > 0 {
		verbs = append(verbs, "src "+strings.Join(src, "/"))
	}
	if len(dst) > 0 {
		verbs = append(verbs, "dst "+strings.Join(dst, "/"))
	}
	r.Verbs = strings.Join(verbs, ", ")
	return r
}

// prominence is greater for rows that differ from what is usual.
func prominence(f verify.Fact) int {
	if relationOf(f) == verify.Is {
		return 0
	}
	return 1
}

// relationOf returns the relation that says the most of those that hold. There is
// nothing to choose: a sentence may always say less.
func relationOf(f verify.Fact) string {
	relations := f.Relations()
	return relations[len(relations)-1]
}

// message is one turn of the conversation.
type message struct{ role, text string }

// prompt returns the conversation that asks for claims about req: the rules, an
// example with its answer, and the rows.
func prompt(req report.Request) ([]message, error) {
	example, answer := example()
	conversation := []message{{"system", fmt.Sprintf(instructions, verify.MaxClaims)}}
	for _, turn := range []struct {
		role  string
		value any
	}{{"user", question(example)}, {"assistant", answer}, {"user", question(req)}} {
		data, err := json.Marshal(turn.value)
		if err != nil {
			return nil, fmt.Errorf("write prompt: %w", err)
		}
		conversation = append(conversation, message{turn.role, string(data)})
	}
	return conversation, nil
}

func question(req report.Request) any {
	rows := make([]row, 0, len(req.Facts))
	// What stands out comes first: small models word the first rows.
	facts := slices.Clone(req.Facts)
	slices.SortStableFunc(facts, func(a, b verify.Fact) int { return prominence(b) - prominence(a) })
	for _, f := range facts {
		rows = append(rows, rowOf(f))
	}
	steps := make([]string, 0, len(req.Steps))
	for _, s := range req.Steps {
		steps = append(steps, s.ID)
	}
	return map[string]any{"evidence": rows, "steps": steps}
}

// example returns rows and how they are well worded.
func example() (report.Request, report.Answer) {
	usual := 12.0
	return report.Request{
			Facts: []verify.Fact{
				{ID: "e1", Kind: "volume", Metric: "one_way_packets_per_second", Unit: "packets/s", Value: 4810, Baseline: &usual, Dst: "host-0001"},
				{ID: "e2", Kind: "port_scan", Metric: "distinct_ports_tried", Unit: "ports", Value: 72, Src: "host-0002", Dst: "host-0003"},
				{ID: "e3", Kind: "port_scan", Metric: "duration", Unit: human.Seconds, Value: 4, Src: "host-0002", Dst: "host-0003"},
			},
			Steps: []report.Step{{ID: "evidence", Text: "Look at the rows."}},
		}, report.Answer{
			Claims: []verify.Claim{
				{Evidence: "e1", Relation: verify.Above, Text: "The {metric} of {subject} was {value}, {ratio} times the usual {baseline}."},
				{Evidence: "e2", Relation: verify.Is, Text: "The {metric} of {subject} was {value}."},
				{Evidence: "e3", Relation: verify.Is, Text: "The {metric} of {subject} was {value}."},
			},
			NextSteps: []string{"evidence"},
		}
}

// pattern keeps a server that enforces schemas within one sentence of the words
// and slots that f may have, with its value once: small models find no end.
func pattern(f verify.Fact) string {
	relation := relationOf(f)
	hosts := []string{"subject"}
	if f.Src != "" && f.Dst != "" {
		hosts = append(hosts, "src", "dst")
	}
	host := `\{(` + strings.Join(hosts, "|") + `)\}`
	src, dst := f.Verbs()
	// These words are letters, - and / alone: there is nothing to quote.
	word := ` (` + strings.Join(slices.Concat(f.Vocabulary(relation), src, dst), "|") + `)`
	usual := ""
	if relation != verify.Is {
		usual = `(,?(` + word + `){1,3} \{baseline\})?`
		if relation == verify.Above && f.Times() != "" {
			usual = `(,?(` + word + `){1,3} \{baseline\}|, \{ratio\} times the (usual|baseline)( \{baseline\})?)?`
		}
	}
	return `^(The|` + host + `)(` + word + `){0,3}( \{metric\})?((` + word + `){1,2} ` + host + `){0,2}(` + word + `){0,3} \{value\}(` + word + `){0,3}( ` + host + `)?` + usual + `[.]$`
}

// schema returns the JSON schema of the reply, in which everything that is known
// before is an enum: each row with the relation that holds for it.
func schema(req report.Request) json.RawMessage {
	enum := func(values ...string) map[string]any { return map[string]any{"type": "string", "enum": values} }
	object := func(properties map[string]any, order ...string) map[string]any {
		return map[string]any{"type": "object", "properties": properties, "required": order, "additionalProperties": false}
	}
	array := func(items any, least, most int) map[string]any {
		return map[string]any{"type": "array", "items": items, "minItems": least, "maxItems": most}
	}
	variants := make([]any, 0, len(req.Facts))
	for _, f := range req.Facts {
		variants = append(variants, object(map[string]any{"evidence_id": enum(f.ID), "relation": enum(relationOf(f)),
			"text": map[string]any{"type": "string", "pattern": pattern(f)}}, "evidence_id", "relation", "text"))
	}
	var steps []string
	for _, s := range req.Steps {
		steps = append(steps, s.ID)
	}
	data, err := json.Marshal(object(map[string]any{
		"claims":     array(map[string]any{"anyOf": variants}, 1, min(len(req.Facts), verify.MaxClaims)),
		"next_steps": array(enum(steps...), 0, min(len(steps), maxSteps)),
	}, "claims", "next_steps"))
	if err != nil {
		return json.RawMessage("{}") // maps of strings always marshal
	}
	return data
}

// maxSteps is the number of steps that a model may put first.
const maxSteps = 3
