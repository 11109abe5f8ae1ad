package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/yuin/goldmark"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/incident"
)

func TestWebhookCarriesTheWholeReport(t *testing.T) {
	in, findings := flood()
	r, err := builder(t, nil).Incident(t.Context(), in, findings, at)
	if err != nil {
		t.Fatal(err)
	}
	body, err := Webhook(r, "http://page/reports/"+r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Type string
		Data struct {
			ID, Markdown, Author, Link string
			Truncated                  bool
			Severity                   detect.Severity
			Findings                   []detect.Finding
			Incident                   *incident.Incident
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	d := got.Data
	if got.Type != "incident.report" || d.ID != r.ID || d.Markdown != r.Markdown || d.Truncated || d.Severity != r.Severity ||
		len(d.Findings) != 2 || len(d.Findings[0].Evidence) != 3 || d.Incident.ID != in.ID || d.Author != Template || d.Link == "" {
		t.Errorf("body is %s", body)
	}
}

func TestWebhookGivesUpQueriesBeforeFindings(t *testing.T) {
	in, findings := flood()
	for i := range findings {
		for j := range findings[i].Evidence {
			findings[i].Evidence[j].Query = fmt.Sprintf("SELECT %d, %d, '%s'", i, j, strings.Repeat("x", 2500))
		}
	}
	r, err := builder(t, nil).Incident(t.Context(), in, findings, at)
	if err != nil {
		t.Fatal(err)
	}
	body, err := Webhook(r, "")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Data struct {
			Markdown  string
			Truncated bool
			Findings  []detect.Finding
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	md := got.Data.Markdown
	if !got.Data.Truncated || strings.Contains(md, "```sql") || strings.Count(md, "\n## ") != strings.Count(r.Markdown, "\n## ") {
		t.Errorf("a section is missing, or the queries are not:\n%s", md)
	}
	if len(got.Data.Findings) != len(findings) || got.Data.Findings[0].Evidence[0].Query == "" {
		t.Error("the findings lost what fits")
	}
	if strings.Contains(md, "This report was cut") {
		t.Error("the Markdown was cut")
	}
}

func TestWebhookStaysBelowItsLimit(t *testing.T) {
	for _, c := range []struct {
		name     string
		findings int
		query    string
		title    string
		entities int
	}{
		{"many findings", 200, strings.Repeat("SELECT 1\n", 40), "Title", 5},
		{"long queries", 10, strings.Repeat("x", 8000), "Title", 5},
		{"everything escaped six-fold", 60, strings.Repeat("<\x01&", 3000), strings.Repeat("\x01", 5000), 5000},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, two := flood()
			in.Title, in.Entities = c.title, nil
			for i := range c.entities {
				in.Entities = append(in.Entities, fmt.Sprintf("%s-%d", c.title, i))
			}
			var findings []detect.Finding
			for range c.findings {
				f := two[1]
				f.Evidence = append([]detect.Evidence(nil), f.Evidence...)
				for i := range f.Evidence {
					f.Evidence[i].Query = fmt.Sprint(i, c.query)
				}
				findings = append(findings, f)
			}
			r, err := builder(t, nil).Incident(t.Context(), in, findings, at)
			if err != nil {
				t.Fatal(err)
			}
			body, err := Webhook(r, "http://page/reports/"+r.ID)
			if err != nil {
				t.Fatal(err)
			}
			if len(body) >= MaxWebhook {
				t.Errorf("%d bytes", len(body))
			}
			var got struct {
				Data struct {
					ID, Title, Markdown, Link string
					Truncated                 bool
				}
			}
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatal(err)
			}
			if d := got.Data; !d.Truncated || d.ID != r.ID || d.Title == "" || d.Link == "" || d.Markdown == "" {
				t.Errorf("body is %.400s…", body)
			}
			if strings.Contains(got.Data.Markdown, "This report was cut") {
				var page bytes.Buffer
				if err := goldmark.Convert([]byte(got.Data.Markdown), &page); err != nil || !strings.Contains(page.String(), "<p>This report was cut") {
					t.Errorf("the cut is hidden in a code block: …%s", got.Data.Markdown[len(got.Data.Markdown)-300:])
				}
			}
		})
	}
}

func TestACutReportHasNoPartOfAQuery(t *testing.T) {
	in, findings := flood()
	r, err := builder(t, nil).Incident(t.Context(), in, findings, at)
	if err != nil {
		t.Fatal(err)
	}
	for limit := 100; limit < len(r.Markdown); limit++ {
		d := eventData{Report: r, Markdown: r.Markdown}
		d.cutMarkdown(limit)
		kept, _, _ := strings.Cut(d.Markdown, "\nThis report was cut.")
		if !strings.HasPrefix(r.Markdown, kept) || strings.Count(kept, "```")%2 != 0 || strings.HasSuffix(kept, "```sql\n```\n") || len(kept) > limit {
			t.Fatalf("cut to %d bytes: %s", limit, kept)
		}
	}
}

func TestAWebhookHasAQueryOnceAFinding(t *testing.T) {
	in, findings := flood()
	r, err := builder(t, nil).Incident(t.Context(), in, findings, at)
	if err != nil {
		t.Fatal(err)
	}
	body, err := Webhook(r, "")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Data struct{ Findings []detect.Finding }
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	e := got.Data.Findings[0].Evidence
	if e[0].Query != findings[1].Evidence[0].Query || e[1].Query != "" || e[2].Query != "SELECT 1" || r.Findings[0].Evidence[1].Query != e[0].Query {
		t.Errorf("evidence is %+v", e)
	}
}
