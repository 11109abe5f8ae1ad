package llm

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/report"
)

// A real model, asked to word a real report. Set EBBWATCH_TEST_LLM_BASE_URL to the
// base URL of one (scripts/llm-server.py serves a small one) to run it: models are
// an optional extra. Whatever the model invents, the delivered sentences must hold.
func TestARealModel(t *testing.T) {
	base := os.Getenv("EBBWATCH_TEST_LLM_BASE_URL")
	if base == "" {
		t.Skip("EBBWATCH_TEST_LLM_BASE_URL is not set")
	}
	cfg := DefaultConfig()
	cfg.BaseURL, cfg.Timeout = base, 2*time.Minute
	if model := os.Getenv("EBBWATCH_TEST_LLM_MODEL"); model != "" {
		cfg.Model = model
	}
	var logs strings.Builder
	started := time.Now()
	r := write(t, cfg, &logs)
	t.Logf("author %q after %v, note %q, log %s", r.Author, time.Since(started).Round(time.Millisecond), r.Note, logs.String())
	number := regexp.MustCompile(`[0-9][0-9,.]*`)
	for _, c := range r.Claims {
		t.Logf("%s %v", c.Text, c.Evidence)
		text := strings.ReplaceAll(c.Text, "10.9.0.2", "")
		for _, n := range number.FindAllString(strings.ReplaceAll(text, "web-1", ""), -1) {
			if n = strings.TrimRight(n, ".,"); n != "40,213" && n != "120" && n != "335" {
				t.Errorf("the number %s in %q is in no evidence", n, c.Text)
			}
		}
	}
	if r.Author == report.Template && r.Note == "" {
		t.Error("the report does not say why the model's words were not used")
	}
}
