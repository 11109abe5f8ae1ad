package demo

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// show prints the last incident report as the receiver got it, and who worded it.
func (w *watcher) show() {
	messages := w.stage.hook.Messages()
	for i := len(messages) - 1; i >= 0; i-- {
		m := messages[i]
		if m.Type != "incident.report" {
			continue
		}
		w.say.line("the last report, as the receiver got it by webhook %s:", m.ID)
		w.say.block(m.Report.Markdown)
		w.showWords(m.Report.Author, m.Report.Note, m.Report.Words())
		break
	}
	for _, a := range w.stage.attacks {
		found := "NOT FOUND"
		if f, ok := w.verdict.Found[a.Name]; ok {
			found = fmt.Sprintf("found after %.1f s as %s", w.detected[a.Name].Seconds(), f.Kind)
		}
		w.say.line("%-7s %s (%s)", a.Name, found, a.Does)
	}
	w.say.line("ordinary traffic: %s; %d failed", &w.stage.player.Counts, w.stage.player.Counts.Failed.Load())
}

// showWords prints the model's words beside the evidence that they cite, or why
// there are none.
func (w *watcher) showWords(author, note string, claims []string) {
	if w.stage.opts.LLM.BaseURL == "" {
		return
	}
	if author == "template" {
		w.say.line("the model's words were refused, the template wrote the report: %s", note)
		return
	}
	w.say.line("worded by %s; every claim was verified against the evidence that it cites:", author)
	w.say.block(strings.Join(claims, "\n"))
	if note != "" {
		w.say.line("note: %s", note)
	}
}

// screenshot takes a picture of the page with Chromium and says how that went.
func screenshot(ctx context.Context, url, file string) string {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
		"--window-size=1400,1600", "--virtual-time-budget=5000", "--screenshot="+file, url) // #nosec G204 -- the file is the user's choice
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Sprintf("failed: %v (Debian: apt-get install chromium) %.300s", err, out)
	}
	return file
}
