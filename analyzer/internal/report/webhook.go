package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
)

// MaxWebhook is the size of a webhook's body in bytes: Standard Webhooks asks
// senders to stay below 20 KB.
const MaxWebhook = 20_000

// event is the body of a webhook.
type event struct {
	Type      string    `json:"type"` // incident.report or periodic.report
	Timestamp time.Time `json:"timestamp"`
	Data      eventData `json:"data"`
}

type eventData struct {
	Report
	Link      string `json:"link,omitempty"`      // page of the whole report
	Truncated bool   `json:"truncated,omitempty"` // parts were left out to stay below MaxWebhook
	Markdown  string `json:"markdown"`
}

// Webhook returns r as the body of a webhook, below MaxWebhook bytes. What does
// not fit is left out, the least telling first; link, if not "", leads to all
// of it. A query stands once a finding, in the first evidence that it shows.
func Webhook(r Report, link string) ([]byte, error) {
	e := event{Type: r.Kind + ".report", Timestamp: r.Created.UTC(), Data: eventData{Report: r, Link: link, Markdown: r.Markdown}}
	e.Data.Findings = onceQueries(r.Findings)
	body, err := json.Marshal(e)
	for _, reduce := range reductions {
		if err != nil {
			return nil, fmt.Errorf("write webhook of report %s: %w", r.ID, err)
		}
		if len(body) < MaxWebhook {
			return body, nil
		}
		e.Data.Truncated = true
		reduce(&e.Data, len(body)-MaxWebhook)
		body, err = json.Marshal(e)
	}
	if err == nil && len(body) >= MaxWebhook {
		err = fmt.Errorf("%d bytes are too many", len(body))
	}
	if err != nil {
		return nil, fmt.Errorf("write webhook of report %s: %w", r.ID, err)
	}
	return body, nil
}

// reductions make the body smaller, one after the other, by what a reader misses
// least. over is by how many bytes it is too large.
var reductions = []func(d *eventData, over int){
	func(d *eventData, _ int) { d.dropQueries() },
	func(d *eventData, _ int) { cutFindings(d, 10, 6, 2000) },
	func(d *eventData, _ int) { cutFindings(d, 5, 4, 1500) },
	func(d *eventData, over int) { d.cutMarkdown(max(4000, len(d.Markdown)-over-400)) },
	func(d *eventData, _ int) { cutFindings(d, 3, 3, 300); d.cutPeriod(10) },
	func(d *eventData, _ int) { d.cutMarkdown(2000) },
	func(d *eventData, _ int) { cutFindings(d, 1, 2, 200); d.cutPeriod(3); d.cutStrings() },
	func(d *eventData, _ int) {
		d.Findings, d.Claims, d.Period, d.Incident = []detect.Finding{}, nil, nil, nil
	},
	func(d *eventData, _ int) { d.cutMarkdown(500) },
}

// onceQueries returns findings without the queries that evidence repeats.
func onceQueries(findings []detect.Finding) []detect.Finding {
	findings = slices.Clone(findings)
	for i := range findings {
		shown := make(map[string]bool)
		evidence := slices.Clone(findings[i].Evidence)
		for j, e := range evidence {
			if shown[e.Query] {
				evidence[j].Query = ""
			}
			shown[e.Query] = true
		}
		findings[i].Evidence = evidence
	}
	return findings
}

// dropQueries writes the Markdown without the queries, its longest part: they
// stand in the findings too, and a reader would rather miss them than a finding.
func (d *eventData) dropQueries() {
	r := d.Report
	r.Findings = slices.Clone(d.Findings)
	for i := range r.Findings {
		f := &r.Findings[i]
		f.Evidence = slices.Clone(f.Evidence)
		for j := range f.Evidence {
			f.Evidence[j].Query = ""
		}
	}
	d.Markdown = markdown(&r)
}

func cutFindings(d *eventData, findings, evidence, query int) {
	cut := make([]detect.Finding, 0, findings)
	for _, f := range d.Findings[:min(findings, len(d.Findings))] {
		rows := make([]detect.Evidence, 0, evidence)
		for _, e := range f.Evidence[:min(evidence, len(f.Evidence))] {
			e.Query = human.CleanBlock(e.Query, query)
			rows = append(rows, e)
		}
		f.Evidence, f.Summary = rows, human.Clean(f.Summary, 400)
		cut = append(cut, f)
	}
	d.Findings = cut
}

func (d *eventData) cutPeriod(most int) {
	if d.Period == nil {
		return
	}
	p := *d.Period
	p.Incidents = p.Incidents[:min(most, len(p.Incidents))]
	p.Agents = p.Agents[:min(4*most, len(p.Agents))]
	p.Counts = p.Counts[:min(4*most, len(p.Counts))]
	d.Period = &p
}

func (d *eventData) cutStrings() {
	d.Title, d.Note = human.Clean(d.Title, 200), human.Clean(d.Note, 300)
	if d.Incident != nil {
		in := *d.Incident
		in.Title = human.Clean(in.Title, 200)
		in.Entities = in.Entities[:min(10, len(in.Entities))]
		d.Incident = &in
	}
}

// cutMarkdown cuts the Markdown to about limit bytes at the end of a line. A
// code block that the cut would leave open goes, with the line that leads to it.
func (d *eventData) cutMarkdown(limit int) {
	if len(d.Markdown) <= limit {
		return
	}
	text := d.Markdown[:limit]
	for !utf8.ValidString(text) && text != "" {
		text = text[:len(text)-1]
	}
	if i := strings.LastIndexByte(text, '\n'); i > 0 {
		text = text[:i+1]
	}
	if i := openFence(text); i >= 0 {
		text = strings.TrimRight(text[:i], "\n")
		text = text[:strings.LastIndexByte(text, '\n')+1]
	}
	text += "\nThis report was cut."
	if d.Link != "" {
		text += " All of it: " + d.Link
	}
	d.Markdown = text + "\n"
}

// openFence returns where a code block begins that text leaves open, -1 if none.
func openFence(text string) int {
	fence, begin, at := "", -1, 0
	for line := range strings.Lines(text) {
		ticks := len(line) - len(strings.TrimLeft(line, "`"))
		switch {
		case fence == "" && ticks >= 3:
			fence, begin = line[:ticks], at
		case fence != "" && strings.TrimSpace(line) == fence:
			fence, begin = "", -1
		}
		at += len(line)
	}
	return begin
}
