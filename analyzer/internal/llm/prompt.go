package llm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/verify"
)

const instructions = `You word measured facts of a network report. Code checks every claim and drops what it cannot check.
Reply with one JSON object: {"claims":[{"evidence_ids":[id],"subject":host,"metric":metric,"relation":relation,"text":sentence}],"severity":severity,"next_steps":[step]}.
Rules for a claim:
- It is about exactly one evidence row: evidence_ids holds its id, metric its metric, subject one of its hosts (src, dst or host).
- relation is "above_baseline" or "below_baseline" if the row has a baseline and the value is above or below it, else "is".
- text is one short sentence that names the subject and states the value. Never write numbers: write the slots {value}, {baseline}, {ratio} (value divided by baseline). Write hosts as the slots {subject}, {src}, {dst}.
- src acts (sent, probed, opened) and stands after "from" or "by". dst receives and stands after "to" or "on".
- Use only the words listed for the row. No causes, no blame, no advice, no negation, no guesses.
Examples of text: "{dst} received {value}, above the usual {baseline}." "{src} probed {value} on {dst}." "The %s of {subject} was {value}, {ratio} times the usual."
One claim for each of the most important rows, at most six. next_steps orders the given steps by urgency.`

// evidence is a row as the model sees it: pseudonyms and humanised values.
type evidence struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	Metric   string `json:"metric"`
	Value    string `json:"value"`
	Unit     string `json:"unit"`
	Baseline string `json:"baseline,omitempty"`
	Src      string `json:"src,omitempty"`
	Dst      string `json:"dst,omitempty"`
	Host     string `json:"host,omitempty"`
}

// prompt returns the system and the user message for req.
func prompt(req report.Request) (system, user string, err error) {
	var rows []evidence
	words := map[string]bool{}
	metric := "value"
	for i, f := range req.Facts {
		if i == 0 {
			metric = strings.ReplaceAll(f.Metric, "_", " ")
		}
		rows = append(rows, evidence{f.ID, f.Kind, f.Metric, f.Amount(), f.Unit, f.Usual(), f.Src, f.Dst, f.Host})
		for _, w := range verify.Vocabulary(f) {
			words[w] = true
		}
	}
	list := make([]string, 0, len(words))
	for w := range words {
		list = append(list, w)
	}
	slices.Sort(list)
	steps := map[string]string{}
	for _, s := range req.Steps {
		steps[s.ID] = s.Text
	}
	data, err := json.Marshal(map[string]any{"evidence": rows, "steps": steps, "words": strings.Join(list, " ")})
	if err != nil {
		return "", "", fmt.Errorf("write prompt: %w", err)
	}
	return fmt.Sprintf(instructions, metric), string(data), nil
}

// schema returns the JSON schema of the reply, in which everything that is known
// before is an enum.
func schema(req report.Request) json.RawMessage {
	var ids, subjects, metrics, steps []string
	add := func(list *[]string, values ...string) {
		for _, v := range values {
			if v != "" && !slices.Contains(*list, v) {
				*list = append(*list, v)
			}
		}
	}
	for _, f := range req.Facts {
		add(&ids, f.ID)
		add(&subjects, f.Src, f.Dst, f.Host)
		add(&metrics, f.Metric)
	}
	for _, s := range req.Steps {
		add(&steps, s.ID)
	}
	enum := func(values []string) map[string]any { return map[string]any{"type": "string", "enum": values} }
	object := func(properties map[string]any, order ...string) map[string]any {
		return map[string]any{"type": "object", "properties": properties, "required": order, "additionalProperties": false}
	}
	array := func(items any, least, most int) map[string]any {
		return map[string]any{"type": "array", "items": items, "minItems": least, "maxItems": most}
	}
	claim := object(map[string]any{
		"evidence_ids": array(enum(ids), 1, 1), "subject": enum(subjects), "metric": enum(metrics),
		"relation": enum(verify.Relations()), "text": map[string]any{"type": "string", "maxLength": 280},
	}, "evidence_ids", "subject", "metric", "relation", "text")
	data, err := json.Marshal(object(map[string]any{
		"claims": array(claim, 1, 6), "severity": enum([]string{"info", "low", "medium", "high", "critical"}),
		"next_steps": array(enum(steps), 0, len(steps)),
	}, "claims", "severity", "next_steps"))
	if err != nil {
		return json.RawMessage("{}") // maps of strings always marshal
	}
	return data
}
