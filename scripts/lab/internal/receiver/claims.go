package receiver

import (
	"fmt"
	"strings"
)

// Words returns the model's claims, each followed by the evidence that it cites:
// row eN is the Nth of all evidence of all findings, in their order.
func (r Report) Words() []string {
	rows := make(map[string]string)
	for _, f := range r.Findings {
		for _, e := range f.Evidence {
			ref := fmt.Sprintf("e%d", len(rows)+1)
			rows[ref] = fmt.Sprintf("%s: %s %s = %g %s", ref, f.Kind, e.Metric, e.Value, e.Unit)
		}
	}
	var lines []string
	for _, c := range r.Claims {
		lines = append(lines, "“"+strings.TrimSpace(c.Text)+"”")
		for _, ref := range c.Evidence {
			row, ok := rows[ref]
			if !ok {
				row = ref + ": left out of the webhook"
			}
			lines = append(lines, "    "+row)
		}
	}
	return lines
}
