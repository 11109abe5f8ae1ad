package report

import (
	"fmt"
	"strings"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
)

// markdown writes r for a reader of Markdown. Every string that was observed is
// escaped.
func markdown(r *Report) string {
	w := &writer{}
	w.line("# %s: %s", severityLabel(r.Severity), human.Markdown(r.Title, 200))
	w.line("")
	w.line("%s", headline(r))
	if r.Incident != nil {
		w.incident(r)
	}
	if r.Period != nil {
		w.period(r)
	}
	w.claims(r)
	w.findings(r)
	if len(r.Next) > 0 {
		w.line("\n## What to look at next\n")
		for _, step := range r.Next {
			w.line("- %s", human.Markdown(step, 300))
		}
	}
	w.line("\n---\n")
	w.line("%s", human.Markdown(byline(r), 500))
	return w.String()
}

type writer struct{ strings.Builder }

func (w *writer) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

func severityLabel(s detect.Severity) string {
	name := s.String()
	return strings.ToUpper(name[:1]) + name[1:]
}

// headline says in one line what the report covers.
func headline(r *Report) string {
	what := plural(r.FindingsTotal, "finding", "findings")
	if r.Incident != nil {
		return fmt.Sprintf("Incident %s, %s, %s, %s.", human.Markdown(r.Incident.ID, 64), human.Markdown(string(r.Incident.Status), 16), what, span(r))
	}
	return fmt.Sprintf("%s, %s.", what, span(r))
}

// byline says who wrote the report, when, and what became of the model's words.
func byline(r *Report) string {
	by := "Written by the template from measured evidence"
	if r.Author != Template {
		by = "Worded by the model " + human.Clean(r.Author, 100) + "; every sentence of it was checked against the evidence"
	}
	by += ", " + human.Time(r.Created) + "."
	if r.Note != "" {
		by += " Note: " + human.Clean(r.Note, 300) + "."
	}
	return by + " Report " + r.ID + "."
}

func (w *writer) incident(r *Report) {
	in := r.Incident
	entities := make([]string, 0, len(in.Entities))
	for _, e := range in.Entities[:min(len(in.Entities), 12)] {
		entities = append(entities, human.Markdown(e, 128))
	}
	if more := len(in.Entities) - len(entities); more > 0 {
		entities = append(entities, fmt.Sprintf("and %d more", more))
	}
	labels := make([]string, 0, len(in.Kinds))
	for _, k := range in.Kinds {
		labels = append(labels, human.Markdown(KindLabel(k), 64))
	}
	w.line("\n| | |\n|---|---|")
	w.line("| What | %s |", strings.Join(labels, ", "))
	w.line("| Who | %s |", strings.Join(entities, ", "))
	w.line("| Since | %s |", human.Time(in.Started))
	w.line("| Last seen | %s |", human.Time(in.Ended))
	w.line("| Severity | %s |", in.Severity)
}

func (w *writer) claims(r *Report) {
	if len(r.Claims) == 0 {
		return
	}
	w.line("\n## In words\n")
	for _, c := range r.Claims {
		w.line("- %s (%s)", human.Markdown(c.Text, 600), strings.Join(c.Evidence, ", "))
	}
}

func (w *writer) findings(r *Report) {
	rows := Rows(r.Findings)
	for i, f := range r.Findings {
		w.line("\n## %d. %s: %s\n", i+1, human.Markdown(KindLabel(f.Kind), 64), human.Markdown(EntityLabel(f.Entity), 300))
		w.line("%s", human.Markdown(f.Summary, 400))
		if meaning := KindMeaning(f.Kind); meaning != "" {
			w.line("\n%s", meaning)
		}
		w.line("\n%s to %s, severity %s, detector %s, %s.", human.Time(f.WindowStart), human.Time(f.WindowEnd), f.Severity,
			human.Markdown(f.Detector, 64), confidence(f))
		mine := rows[:len(f.Evidence)]
		rows = rows[len(f.Evidence):]
		w.evidence(mine)
	}
	if more := r.FindingsTotal - len(r.Findings); more > 0 {
		w.line("\nAnd %s.", plural(more, "more finding", "more findings"))
	}
}

// confidence writes a finding's score and, where its detector has a null model, its p-value.
func confidence(f detect.Finding) string {
	text := "score " + human.Number(f.Score)
	switch {
	case f.PValue < 1e-300: // what a float64 can hold
		text += ", p-value below 1e-300"
	case f.PValue < 1:
		text += ", p-value " + human.Number(f.PValue)
	}
	return text
}

func (w *writer) evidence(rows []Row) {
	if len(rows) == 0 {
		return
	}
	w.line("\n| | measured | value | usual | times usual |\n|---|---|---:|---:|---:|")
	for _, row := range rows {
		w.line("| %s | %s | %s | %s | %s |", row.Ref, human.Markdown(MetricLabel(row.Metric), 64), human.Markdown(row.Amount(), 64), human.Markdown(row.Usual(), 64), row.Times())
	}
	for _, q := range Queries(rows) {
		w.line("\nTo see %s:\n", q.Refs)
		w.WriteString(human.Fence(q.SQL, "sql"))
	}
}

func (w *writer) period(r *Report) {
	p := r.Period
	w.line("\n## The period\n")
	w.line("%s and %s in %s, %s.", plural(p.Total, "incident", "incidents"), plural(r.FindingsTotal, "finding", "findings"),
		plural(int(min(p.Flows, 1<<53)), "flow record", "flow records"), human.Value(float64(p.Bytes), human.Bytes))
	if p.Incomplete != "" {
		w.line("\nThis report is incomplete: %s.", human.Markdown(p.Incomplete, 300))
	}
	if len(p.Counts) > 0 {
		w.line("\n| kind | severity | findings |\n|---|---|---:|")
		for _, c := range p.Counts {
			w.line("| %s | %s | %s |", human.Markdown(KindLabel(c.Kind), 64), c.Severity, human.Number(float64(c.Count)))
		}
	}
	if len(p.Incidents) > 0 {
		w.line("\n## Incidents\n\n| severity | incident | since | findings |\n|---|---|---|---:|")
		for _, in := range p.Incidents {
			w.line("| %s | %s (%s, %s) | %s | %d |", in.Severity, human.Markdown(in.Title, 200), human.Markdown(in.ID, 64), human.Markdown(string(in.Status), 16), human.Time(in.Started), in.Findings)
		}
		if more := p.Total - len(p.Incidents); more > 0 {
			w.line("\nAnd %s.", plural(more, "more incident", "more incidents"))
		}
	}
	w.line("\n## Coverage\n")
	if len(p.Agents) == 0 {
		w.line("No agent reported in this period.")
		return
	}
	w.line("| agent | covered | packets seen | found no room | batches lost |\n|---|---:|---:|---:|---:|")
	for _, a := range p.Agents {
		w.line("| %s | %s | %s | %s | %s |", human.Markdown(a.Name, 64), CoverageLabel(a.Coverage()), human.Number(float64(a.SeenPackets)), human.Number(float64(a.OverflowPackets)), human.Number(float64(a.LostBatches)))
	}
	for _, a := range p.Agents {
		if a.SkippedPackets > 0 {
			w.line("\n%s sampled: %s of its packets were not counted one by one, so its figures are estimates.", human.Markdown(a.Name, 64), human.Number(float64(a.SkippedPackets)))
		}
	}
}
