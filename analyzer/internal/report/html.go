package report

import (
	"embed"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/human"
)

//go:embed page/report.html page/report.css
var page embed.FS

// renderer holds the parsed template of the HTML report.
type renderer struct{ tmpl *template.Template }

func newRenderer() (*renderer, error) {
	tmpl, err := template.New("report.html").Funcs(template.FuncMap{
		"clean":      human.Clean,
		"lines":      func(s string) string { return human.CleanBlock(s, 8192) },
		"time":       human.Time,
		"iso":        isoTime,
		"label":      KindLabel,
		"meaning":    KindMeaning,
		"entity":     EntityLabel,
		"metric":     MetricLabel,
		"confidence": confidence,
		"coverage":   CoverageLabel,
		"severity":   severityLabel,
		"number":     number,
		"bytes":      func(v uint64) string { return human.Value(float64(v), human.Bytes) },
		"inc":        func(i int) int { return i + 1 },
		"join":       strings.Join,
	}).ParseFS(page, "page/report.html", "page/report.css")
	if err != nil {
		return nil, fmt.Errorf("parse template of report: %w", err)
	}
	return &renderer{tmpl}, nil
}

// section is one finding with its numbered evidence.
type section struct {
	Finding any
	Rows    []Row
	Queries []Query
}

func (h *renderer) html(r *Report) (string, error) {
	rows := Rows(r.Findings)
	sections := make([]section, 0, len(r.Findings))
	for _, f := range r.Findings {
		mine := rows[:len(f.Evidence)]
		rows = rows[len(f.Evidence):]
		sections = append(sections, section{Finding: f, Rows: mine, Queries: Queries(mine)})
	}
	data := map[string]any{"R": r, "Span": span(r), "Byline": byline(r), "Sections": sections,
		"MoreFindings": r.FindingsTotal - len(r.Findings)}
	var b strings.Builder
	if err := h.tmpl.Execute(&b, data); err != nil {
		return "", fmt.Errorf("render report as HTML: %w", err)
	}
	return b.String(), nil
}

// CoverageLabel writes a share in percent and never rounds up to 100: what is
// lost must show.
func CoverageLabel(percent float64) string {
	if percent < 100 && percent > 99.99 {
		return "99.99 %"
	}
	return strconv.FormatFloat(math.Floor(percent*100)/100, 'f', -1, 64) + " %"
}

func number(v any) (string, error) {
	switch n := v.(type) {
	case int:
		return human.Number(float64(n)), nil
	case uint64:
		return human.Number(float64(n)), nil
	case float64:
		return human.Number(n), nil
	}
	return "", fmt.Errorf("write number: %T is none", v)
}
