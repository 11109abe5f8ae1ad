package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/scripts/kernel/internal/suite"
)

// tell prints what the console says of the tests, and returns an error unless
// all is well. stopped is why the machine ended, nil if it powered off.
func tell(ctx context.Context, log string, packages []suite.Package, stopped error, took time.Duration, stdout io.Writer) error {
	console, err := os.Open(log)
	if err != nil {
		return err
	}
	defer console.Close()
	var paths []string
	for _, p := range packages {
		paths = append(paths, p.Path)
	}
	report, err := suite.Read(ctx, console, paths)
	if err != nil {
		return err
	}
	if stopped != nil {
		report.Problems = append([]string{"the machine did not power off: " + strings.TrimSpace(stopped.Error())}, report.Problems...)
	}
	if len(report.Problems) > 0 {
		if err := showFailure(report, log, stdout); err != nil {
			return err
		}
	}
	for _, note := range report.Notes {
		fmt.Fprintln(stdout, "note:", note)
	}
	for _, r := range report.Results {
		if r.Status == "skip" {
			fmt.Fprintf(stdout, "skipped: %s %s: %s\n", r.Package, r.Test, r.Reason())
		}
	}
	for _, p := range packages {
		for _, l := range p.Leave {
			fmt.Fprintf(stdout, "left out: %s %s: %s\n", p.Path, l.Test, l.Why)
		}
		fmt.Fprintf(stdout, "%s: %s\n", p.Path, report.Summary(p.Path))
	}
	fmt.Fprintf(stdout, "kernel %s: %d tests passed, %d skipped, %d failed in %d s\n",
		report.Kernel, report.Count("pass"), report.Count("skip"), report.Count("fail"), int(took.Seconds()))
	if n := len(report.Problems); n > 0 {
		return fmt.Errorf("the tests on another kernel found %d problems:\n  %s", n, strings.Join(report.Problems, "\n  "))
	}
	return nil
}

// shown is how much of a console is printed, in bytes.
const shown = 40_000

// showFailure prints what failed tests said or, if none failed, the console.
func showFailure(report *suite.Report, log string, stdout io.Writer) error {
	failed := false
	for _, r := range report.Results {
		if r.Status == "fail" {
			failed = true
			fmt.Fprintf(stdout, "--- %s %s\n%s", r.Package, r.Test, last(r.Output, shown))
		}
	}
	if failed {
		return nil
	}
	console, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "--- the console\n%s\n", last(string(console), shown))
	return nil
}

// last returns the end of text, at most n bytes.
func last(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return "…" + text[len(text)-n:]
}
