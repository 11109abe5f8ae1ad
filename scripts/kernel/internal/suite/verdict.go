package suite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"

	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/plan"
)

// Result is what became of one test.
type Result struct {
	Package, Test string
	Status        string  // pass, fail or skip
	Seconds       float64 // by the guest's clock
	Output        string
}

// Reason is what a skipped test said last.
func (r Result) Reason() string {
	reason := ""
	for _, m := range said.FindAllStringSubmatch(r.Output, -1) {
		reason = m[1]
	}
	return reason
}

var said = regexp.MustCompile(`(?m)^\s+\S+\.go:\d+: (.*)$`)

// Report is what a machine's console tells.
type Report struct {
	Kernel   string   // release and machine, "" if it did not come that far
	Notes    []string // of init
	Results  []Result // top-level tests and subtests, in the order of their end
	Began    []string // packages
	Ended    []string // packages whose binary ended with success or failed tests
	Problems []string // why this is no success, "" if it is
}

// Count returns how many tests and subtests ended with the status.
func (r *Report) Count(status string) (n int) {
	for _, t := range r.Results {
		if t.Status == status {
			n++
		}
	}
	return n
}

// Read reads the console of a machine that was to run packages, and judges it.
// It needs the go command on PATH.
func Read(ctx context.Context, console io.Reader, packages []string) (*Report, error) {
	r := &Report{}
	var output bytes.Buffer // of the binary that runs
	running, done := "", false
	lines := bufio.NewReader(console)
	for {
		line, err := lines.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		word, rest, marked := mark(line)
		switch {
		case !marked && running != "":
			output.WriteString(line + "\n")
		case word == plan.Kernel:
			r.Kernel = rest
		case word == plan.Note:
			r.Notes = append(r.Notes, rest)
		case word == plan.Begin:
			running = rest
			r.Began = append(r.Began, rest)
			output.Reset()
		case word == plan.End:
			name, exit, _ := strings.Cut(rest, " ")
			if err := r.add(ctx, name, output.Bytes()); err != nil {
				return nil, err
			}
			r.Ended = append(r.Ended, name)
			if exit != "ok" {
				r.Problems = append(r.Problems, fmt.Sprintf("%s ended with %s", name, exit))
			}
			running = ""
		case word == plan.Done:
			done = true
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the console: %w", err)
		}
	}
	if running != "" {
		if err := r.add(ctx, running, output.Bytes()); err != nil {
			return nil, err
		}
	}
	r.judge(packages, running, done)
	return r, nil
}

// mark takes a line of init apart.
func mark(line string) (word, rest string, ok bool) {
	line, ok = strings.CutPrefix(line, plan.Mark)
	if ok {
		word, rest, _ = strings.Cut(line, " ")
	}
	return word, rest, ok
}

// add takes the tests out of what a binary printed.
func (r *Report) add(ctx context.Context, pkg string, output []byte) error {
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", "-t")
	cmd.Stdin = bytes.NewReader(output)
	events, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go tool test2json: %w", err)
	}
	said := make(map[string]*strings.Builder)
	for dec := json.NewDecoder(bytes.NewReader(events)); ; {
		var e struct {
			Action, Test, Output string
			Elapsed              float64
		}
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the tests of %s: %w", pkg, err)
		}
		if e.Test == "" {
			continue
		}
		if said[e.Test] == nil {
			said[e.Test] = &strings.Builder{}
		}
		switch e.Action {
		case "output":
			said[e.Test].WriteString(e.Output)
		case "pass", "fail", "skip":
			r.Results = append(r.Results, Result{Package: pkg, Test: e.Test, Status: e.Action, Seconds: e.Elapsed, Output: said[e.Test].String()})
		}
	}
}

// judge finds everything that makes this no success.
func (r *Report) judge(packages []string, running string, done bool) {
	problem := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	if r.Kernel == "" {
		problem("the machine did not start its init")
	}
	passed := make(map[string]int)
	for _, t := range r.Results {
		switch t.Status {
		case "pass":
			passed[t.Package]++
		case "fail":
			problem("%s: %s failed", t.Package, t.Test)
		case "skip":
			if !maySkip(t.Reason()) {
				problem("%s: %s skipped itself, which no line of the suite allows: %s", t.Package, t.Test, t.Reason())
			}
		}
	}
	for _, p := range packages {
		if passed[p] == 0 {
			problem("%s: no test passed", p)
		}
	}
	if running != "" {
		problem("%s did not end", running)
	}
	if !done {
		problem("the machine ended before all was run")
	}
}

// Summary tells in a few words how the tests of a package ended.
func (r *Report) Summary(pkg string) string {
	count := make(map[string]int)
	seconds := 0.0
	for _, t := range r.Results {
		if t.Package != pkg {
			continue
		}
		count[t.Status]++
		if !strings.Contains(t.Test, "/") {
			seconds += t.Seconds
		}
	}
	return fmt.Sprintf("%d passed, %d skipped, %d failed, %.0f s", count["pass"], count["skip"], count["fail"], seconds)
}
