package demo

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/attack"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/client"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/judge"
	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/receiver"
)

// watcher looks at what Ebbwatch tells and tells the narrator what is new. It is
// used by one goroutine.
type watcher struct {
	stage *stage
	say   *narrator
	began time.Time

	verdict    judge.Verdict
	detected   map[string]time.Duration // by attack, from its beginning
	told       map[string]bool          // what the narrator has told
	incidents  []client.Incident
	reports    []client.Report
	deliveries []client.Delivery
	answered   time.Time // when the last answer came
}

// silenceLimit is how long the API may give no answer.
const silenceLimit = 30 * time.Second

// wait looks once and then waits a moment. It returns an error if the stage or
// ctx ended.
func (w *watcher) wait(ctx context.Context) error {
	if err := w.look(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.stage.ebb.Done():
		return fmt.Errorf("%w: ebbwatch ended: %w", ErrFailed, w.stage.ebb.Err())
	case <-time.After(500 * time.Millisecond):
		return nil
	}
}

// watch looks until everything is found and delivered. over gives nil when the
// attacks are over.
func (w *watcher) watch(ctx context.Context, over <-chan error) error {
	allOver := false
	for !allOver || w.missing() != "" {
		select {
		case err := <-over:
			if err != nil {
				return err
			}
			allOver, over = true, nil
		default:
		}
		if err := w.wait(ctx); err != nil {
			return fmt.Errorf("%w; still %s", err, w.missing())
		}
		if w.say.quietFor(5 * time.Second) {
			w.say.line("%s; still %s", w.doing(), cmp.Or(w.missing(), "to end the attacks"))
		}
	}
	return w.settle(ctx)
}

// settleFor is how long the detectors may go on after everything is found, so
// that a finding that nobody expects has its chance: a few of their steps.
const settleFor = 15 * time.Second

// settle looks for what else is found, and waits for what is then delivered.
func (w *watcher) settle(ctx context.Context) error {
	w.say.line("everything is found and delivered; %s more for what else may be found", settleFor)
	for end := time.Now().Add(settleFor); time.Now().Before(end) || w.missing() != ""; {
		if err := w.wait(ctx); err != nil {
			return fmt.Errorf("%w; still %s", err, w.missing())
		}
	}
	return nil
}

// look asks for everything once. An answer that does not come leaves the last
// one standing, since Ebbwatch may be busy, but not for long.
func (w *watcher) look(ctx context.Context) error {
	if w.told == nil {
		w.told, w.detected, w.answered = make(map[string]bool), make(map[string]time.Duration), time.Now()
	}
	findings, err := w.stage.api.Findings(ctx)
	if err == nil {
		w.incidents, err = w.stage.api.Incidents(ctx)
	}
	if err == nil {
		w.reports, err = w.stage.api.Reports(ctx)
	}
	if err == nil {
		w.deliveries, err = w.stage.api.Deliveries(ctx)
	}
	if err != nil {
		if ctx.Err() == nil && w.say.quietFor(3*time.Second) {
			w.say.line("no answer: %v", err)
		}
		if ctx.Err() == nil && time.Since(w.answered) > silenceLimit {
			return fmt.Errorf("%w: the API gives no answer for %s: %w", ErrFailed, silenceLimit, err)
		}
		return nil
	}
	now := time.Now()
	w.answered = now
	w.verdict = judge.Compare(w.playedSoFar(), findings, now)
	for _, a := range w.stage.attacks {
		if f, ok := w.verdict.Found[a.Name]; ok && w.once("found "+a.Name) {
			w.detected[a.Name] = now.Sub(w.stage.playedAt(a).began)
			w.say.line("FOUND %s after %.1f s: %s, %s: %s", a.Name, w.detected[a.Name].Seconds(), f.Kind, f.Severity, f.Summary)
		}
	}
	for _, f := range w.verdict.Unexpected {
		if w.once("unexpected " + f.ID) {
			w.say.line("UNEXPECTED %s %s → %s port %d (%s to %s): %s", f.Kind, f.Entity.Src, f.Entity.Dst, f.Entity.Port,
				f.Start.Format(time.TimeOnly), f.End.Format(time.TimeOnly), f.Summary)
		}
	}
	w.tellDeliveries()
	return nil
}

func (w *watcher) tellDeliveries() {
	for _, i := range w.incidents {
		if w.once("incident " + i.ID + i.Severity + i.Title) {
			w.say.line("incident %s (%s, %s): %s", i.ID, i.Status, i.Severity, i.Title)
		}
	}
	for _, d := range w.deliveries {
		if d.State != "delivered" && d.Attempts > 0 && w.once(fmt.Sprint("delivery ", d)) {
			w.say.line("delivery of report %s is %s after %d attempts (status %d %s)", d.Report, d.State, d.Attempts, d.HTTPStatus, d.Error)
		}
	}
	for _, m := range w.stage.hook.Messages() {
		if w.once("message " + m.ID) {
			again := ""
			if m.Refused > 0 {
				again = fmt.Sprintf(", after %d refusals", m.Refused)
			}
			w.say.line("the receiver accepted report %s (%s, %d bytes, signature verified%s): %s", m.Report.ID, m.Report.Author, m.Bytes, again, m.Report.Title)
			if m.Report.Note != "" {
				w.say.line("  its note: %s", m.Report.Note)
			}
		}
	}
	for _, reason := range w.stage.hook.Invalid() {
		if w.once("invalid " + reason) {
			w.say.line("the receiver rejected a request: %s", reason)
		}
	}
}

// once reports whether it is asked for what for the first time.
func (w *watcher) once(what string) bool {
	if w.told[what] {
		return false
	}
	w.told[what] = true
	return true
}

// missing names what has not happened yet, "" if everything has.
func (w *watcher) missing() string {
	var missing []string
	for _, a := range w.stage.attacks {
		if _, ok := w.verdict.Found[a.Name]; !ok {
			missing = append(missing, a.Name)
		}
	}
	if len(missing) > 0 {
		return "to find " + strings.Join(missing, ", ")
	}
	if undelivered := w.undelivered(); len(undelivered) > 0 {
		return "to deliver the report about " + strings.Join(undelivered, ", ")
	}
	return ""
}

// undelivered returns the incidents whose present state no delivered report
// tells: all its kinds must be in it, and no delivery may be under way.
func (w *watcher) undelivered() []string {
	var late []string
	for _, i := range w.incidents {
		told := slices.ContainsFunc(w.stage.hook.Messages(), func(m receiver.Message) bool {
			if m.Report.Incident == nil || m.Report.Incident.ID != i.ID {
				return false
			}
			for _, kind := range i.Kinds {
				if !slices.Contains(m.Report.Incident.Kinds, kind) {
					return false
				}
			}
			return w.confirmed(m.Report.ID)
		})
		if !told {
			late = append(late, i.ID)
		}
	}
	if len(w.incidents) == 0 {
		late = append(late, "any incident")
	}
	for _, r := range w.reports {
		if r.Kind == "incident" && !w.confirmed(r.ID) && !slices.Contains(late, r.Subject) {
			late = append(late, r.Subject)
		}
	}
	return late
}

// confirmed reports whether Ebbwatch itself knows that the report was delivered.
func (w *watcher) confirmed(report string) bool {
	return slices.ContainsFunc(w.deliveries, func(d client.Delivery) bool { return d.Report == report && d.State == "delivered" })
}

// doing says what is being played.
func (w *watcher) doing() string {
	var doing []string
	for _, a := range w.stage.attacks {
		if t := w.stage.playedAt(a); !t.began.IsZero() && t.ended.IsZero() {
			doing = append(doing, strings.TrimSuffix(a.Name+": "+a.Progress(), ": "))
		}
	}
	return "playing " + strings.Join(append(doing, "ordinary traffic: "+w.stage.player.Counts.String()), "; ")
}

func (w *watcher) playedSoFar() []judge.Played {
	var played []judge.Played
	for _, a := range w.stage.attacks {
		t := w.stage.playedAt(a)
		played = append(played, judge.Played{
			Name: a.Name, Kinds: a.Kinds, Also: a.Also, Src: a.Src, Dst: a.Dst, Began: t.began, Ended: t.ended,
		})
	}
	return played
}

// result sums up.
func (w *watcher) result(took time.Duration) Result {
	res := Result{
		Attacks: len(w.stage.attacks), Found: len(w.verdict.Found), Unexpected: len(w.verdict.Unexpected),
		Seconds: rounded(took), DetectS: make(map[string]float64),
	}
	for _, name := range slices.Sorted(maps.Keys(w.detected)) {
		res.DetectS[name] = rounded(w.detected[name])
	}
	for _, m := range w.stage.hook.Messages() {
		if m.Type == "incident.report" {
			res.Reports++
			res.Author = m.Report.Author
		}
	}
	return res
}

func rounded(d time.Duration) float64 {
	return float64(d.Round(100*time.Millisecond)) / float64(time.Second)
}

// playedAt returns when a was played.
func (s *stage) playedAt(a *attack.Attack) span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.played[a]
}
