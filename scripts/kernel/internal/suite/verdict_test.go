package suite

import (
	"strings"
	"testing"
)

// console makes what a machine prints. In its lines ^ stands for the mark that
// -test.v=test2json puts before its own lines, @ for ours.
func console(lines ...string) string {
	text := strings.Join(lines, "\r\n") + "\r\n"
	return strings.NewReplacer("^", "\x16", "@ ", "@@ebbwatch ").Replace(text)
}

const booted = "@ kernel 6.1.0 x86_64"

func TestOnlyACompleteSuccessIsOne(t *testing.T) {
	ran := []string{"^=== RUN   TestA", "^--- PASS: TestA (1.50s)", "^=== NAME  ", "PASS"}
	for _, tt := range []struct {
		name    string
		lines   []string
		problem string // part of the only one; "" for success
	}{
		{"a test that passes", append(append([]string{booted, "@ begin p"}, ran...), "@ end p ok", "@ done 1"), ""},
		{"the boot loader's and the kernel's own lines do not matter", append(append([]string{"SeaBIOS", booted, "[ 1.0] x", "@ begin p"}, ran...), "@ end p ok", "@ done 1", "[ 9.9] reboot: Power down"), ""},
		{
			"a test that skips itself for a known reason beside one that passes",
			append(append([]string{booted, "@ begin p"}, ran...), "^=== RUN   TestB", "    b_test.go:1: this kernel has no tcx", "^--- SKIP: TestB (0.00s)", "^=== NAME  ", "@ end p ok", "@ done 1"), "",
		},
		{
			"a test that skips itself for another reason",
			append(append([]string{booted, "@ begin p"}, ran...), "^=== RUN   TestB", "    b_test.go:1: needs root", "^--- SKIP: TestB (0.00s)", "^=== NAME  ", "@ end p ok", "@ done 1"),
			"TestB skipped itself, which no line of the suite allows: needs root",
		},
		{
			"nothing but skipped tests",
			[]string{booted, "@ begin p", "^=== RUN   TestB", "    b_test.go:1: this kernel has no tcx", "^--- SKIP: TestB (0.00s)", "^=== NAME  ", "@ end p ok", "@ done 1"},
			"p: no test passed",
		},
		{
			"a test that fails",
			append(append([]string{booted, "@ begin p"}, ran...), "^=== RUN   TestB", "^--- FAIL: TestB (0.00s)", "^=== NAME  ", "FAIL", "@ end p ok", "@ done 1"),
			"p: TestB failed",
		},
		{"a binary that dies after its tests", append(append([]string{booted, "@ begin p"}, ran...), "@ end p signal: killed", "@ done 1"), "p ended with signal: killed"},
		{"a machine that goes down between two packages", append(append([]string{booted, "@ begin p"}, ran...), "@ end p ok"), "the machine ended before all was run"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Read(t.Context(), strings.NewReader(console(tt.lines...)), []string{"p"})
			if err != nil {
				t.Fatal(err)
			}
			if tt.problem == "" && len(r.Problems) > 0 {
				t.Errorf("problems: %q", r.Problems)
			}
			if tt.problem != "" && (len(r.Problems) != 1 || !strings.Contains(r.Problems[0], tt.problem)) {
				t.Errorf("problems: %q, want %q", r.Problems, tt.problem)
			}
		})
	}
}

func TestABrokenRunTellsHowFarItCame(t *testing.T) {
	for _, tt := range []struct {
		name     string
		lines    []string
		problems string
	}{
		{"no kernel", nil, "did not start its init; p: no test passed; ended before all was run"},
		{"a panic in a test", []string{booted, "@ begin p", "^=== RUN   TestA", "[ 5.0] Kernel panic - not syncing"}, "p: no test passed; p did not end; ended before all was run"},
		{"a package that is not there", []string{booted, "@ done 0"}, "p: no test passed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Read(t.Context(), strings.NewReader(console(tt.lines...)), []string{"p"})
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range strings.Split(tt.problems, "; ") {
				if len(r.Problems) <= i || !strings.Contains(r.Problems[i], want) {
					t.Fatalf("problems %q, want %s", r.Problems, tt.problems)
				}
			}
		})
	}
}

func TestResultsAreCountedByPackage(t *testing.T) {
	r, err := Read(t.Context(), strings.NewReader(console(
		booted, "@ note hello",
		"@ begin p", "^=== RUN   TestA", "^=== RUN   TestA/one", "^--- PASS: TestA/one (0.50s)", "^--- PASS: TestA (1.50s)", "^=== NAME  ", "PASS", "@ end p ok",
		"@ begin q", "^=== RUN   TestB", "    b_test.go:7: first", "    b_test.go:8: this kernel has no tcx", "^--- SKIP: TestB (0.00s)", "^=== NAME  ",
		"^=== RUN   TestC", "        --- PASS: TestOfAChild (0.00s)", "^--- PASS: TestC (2.00s)", "^=== NAME  ", "PASS", "@ end q ok", "@ done 2")), []string{"p", "q"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 || r.Kernel != "6.1.0 x86_64" || len(r.Notes) != 1 {
		t.Errorf("%+v", r)
	}
	if got := r.Summary("p"); got != "2 passed, 0 skipped, 0 failed, 2 s" {
		t.Errorf("p: %s", got)
	}
	if got := r.Summary("q"); got != "1 passed, 1 skipped, 0 failed, 2 s" {
		t.Errorf("q: %s", got)
	}
	for _, test := range r.Results {
		if test.Status == "skip" && test.Reason() != "this kernel has no tcx" {
			t.Errorf("reason: %q", test.Reason())
		}
	}
}
