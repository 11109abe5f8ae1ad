package suite

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// elsewhere are packages with tests that use BPF and do not run on other kernels.
var elsewhere = map[string]string{
	"agent/internal/annotate": "uses the types of the datapath alone",
	"agent/internal/conn":     "likewise",
	"agent/internal/drain":    "likewise",
	"agent/internal/warn":     "likewise",
}

// A package that loads BPF programs and is tested on one kernel alone breaks on
// the others, and nobody notices.
func TestEveryPackageWhoseTestsUseBPFRunsOnOtherKernels(t *testing.T) {
	cmd := exec.Command("go", "list", "-test", "-deps=false", "-json=ImportPath,ForTest,Imports,Deps", "./...")
	cmd.Dir = filepath.Join("..", "..", "..", "..", "agent")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var listed, needed []string
	for _, p := range Packages() {
		listed = append(listed, p.Path)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		const project = "github.com/ebbwatch/ebbwatch/"
		path, isTest := strings.CutSuffix(strings.TrimPrefix(p.ImportPath, project), ".test")
		if isTest && slices.ContainsFunc(p.Deps, func(d string) bool {
			d, _, _ = strings.Cut(d, " ")
			return d == project+"agent/internal/flowbpf/objects"
		}) {
			needed = append(needed, path)
		}
	}
	if len(needed) < 4 {
		t.Fatalf("only %v use BPF: this test looks in the wrong place", needed)
	}
	for _, path := range needed {
		if !slices.Contains(listed, path) && elsewhere[path] == "" {
			t.Errorf("the tests of %s use BPF: list it in Packages, or in elsewhere with the reason", path)
		}
	}
	for path := range elsewhere {
		if !slices.Contains(needed, path) {
			t.Errorf("elsewhere names %s, whose tests use no BPF: remove it", path)
		}
	}
}

func TestEachTestThatIsLeftOutHasAReason(t *testing.T) {
	for _, p := range Packages() {
		for _, l := range p.Leave {
			if l.Test == "" || l.Why == "" {
				t.Errorf("%s: %+v", p.Path, l)
			}
		}
	}
}

func TestAQuickRunIsAPartOfTheWhole(t *testing.T) {
	all := []Package{{Path: "a", Brief: "TestBrief"}, {Path: "b", Brief: nothing}}
	quick := Quick(all)
	if len(quick) != 1 {
		t.Fatalf("packages %v, want one", quick)
	}
	if args := strings.Join(quick[0].Args(""), " "); !strings.Contains(args, "-test.run=TestBrief") {
		t.Errorf("quick: %s", args)
	}
	if args := strings.Join(all[0].Args(""), " "); strings.Contains(args, "-test.run") {
		t.Errorf("whole: %s", args)
	}
}

func TestArgumentsNameTestsExactly(t *testing.T) {
	p := Package{Path: "p", Leave: []Left{{"TestA/one", "because"}, {"TestB", "because"}}}
	args := p.Args("TestX")
	for _, want := range []string{"-test.run=TestX", "-test.skip=^TestA$/^one$|^TestB$", "-test.v=test2json"} {
		if !slices.Contains(args, want) {
			t.Errorf("%q lacks %s", args, want)
		}
	}
}
