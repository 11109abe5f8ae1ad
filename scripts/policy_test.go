// Package scripts holds the checks of the repository as a whole.
package scripts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module   = "github.com/ebbwatch/ebbwatch"
	maxLines = 600 // of a file that people write
)

var modules = []string{".", "agent", "collector", "analyzer", "deploy/standalone", "scripts"}

// rule is one line of a policy. used is set for each right side that was needed.
type rule struct {
	from string
	to   []string
	used []bool
}

func parsePolicy(t *testing.T, text string) []*rule {
	t.Helper()
	var rules []*rule
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		if line == "" {
			continue
		}
		from, to, ok := strings.Cut(line, " -> ")
		if !ok {
			t.Fatalf("policy line %q: want importer -> imports", line)
		}
		r := &rule{from: strings.TrimSpace(from), to: strings.Fields(to)}
		r.used = make([]bool, len(r.to))
		rules = append(rules, r)
	}
	return rules
}

func matches(pattern, path string) bool {
	if folder, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == folder || strings.HasPrefix(path, folder+"/")
	}
	return pattern == "*" || pattern == path
}

// allowed reports whether a rule lets from import to, and marks all that do.
func allowed(rules []*rule, from, to string) bool {
	found := false
	for _, r := range rules {
		if !matches(r.from, from) {
			continue
		}
		for i, pattern := range r.to {
			if matches(pattern, to) {
				r.used[i], found = true, true
			}
		}
	}
	return found
}

// unused names what the rules allow and nobody does, patterns of folders aside:
// these say what may be, the others what is.
func unused(rules []*rule) []string {
	var lines []string
	for _, r := range rules {
		for i, pattern := range r.to {
			if !r.used[i] && !strings.HasSuffix(pattern, "/...") && pattern != "." && pattern != "*" {
				lines = append(lines, r.from+" -> "+pattern)
			}
		}
	}
	return lines
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath                         string
	Standard                           bool
	Imports, TestImports, XTestImports []string
	Module                             *struct{ Path string }
}

// list runs go list in a module of the project as its users see it: without the
// workspace.
func list(t *testing.T, dir string, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Standard,Imports,TestImports,XTestImports,Module"}, args...)...)
	cmd.Dir = filepath.Join("..", dir)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list in %s: %v\n%s", dir, err, &stderr)
	}
	var all []pkg
	for dec := json.NewDecoder(&stdout); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list in %s: %v", dir, err)
		}
		all = append(all, p)
	}
}

// relative returns the path of a package within the project, and whether it is one of it.
func relative(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

// service returns the service or program that a package belongs to, "" for what all share.
func service(path string) string {
	for _, m := range modules[1:] {
		if path == m || strings.HasPrefix(path, m+"/") {
			return m
		}
	}
	return ""
}

// harness reports whether a package only measures or serves tests.
func harness(pkg string) bool {
	name := path.Base(pkg)
	return name == "bench" || strings.HasSuffix(name, "test")
}

// complaint says what is wrong with from importing to, "" if nothing is.
func complaint(rules []*rule, from, to string) string {
	if allowed(rules, from, to) || harness(from) && (service(from) == service(to) || to == "migrations") {
		return ""
	}
	switch a, b := service(from), service(to); {
	case a == "" && b != "":
		return fmt.Sprintf("%s imports %s: what all share may not know a service", from, to)
	case a != b && b != "":
		return fmt.Sprintf("%s imports %s: services never import each other, they meet in deploy/standalone/app", from, to)
	case a == b:
		return fmt.Sprintf("%s imports %s: siblings meet in app; let app join them by an interface, or name the exception in policy_table_test.go", from, to)
	}
	return fmt.Sprintf("%s imports %s: no line of policy_table_test.go allows it", from, to)
}

func TestPackagesOfTheProjectImportOnlyWhatThePolicyAllows(t *testing.T) {
	rules := parsePolicy(t, importPolicy)
	for _, dir := range modules {
		for _, p := range list(t, dir, "./...") {
			from, _ := relative(p.ImportPath)
			for _, path := range p.Imports {
				if to, ours := relative(path); ours {
					if why := complaint(rules, from, to); why != "" {
						t.Error(why)
					}
				}
			}
			for _, path := range append(p.TestImports, p.XTestImports...) { // a test may join siblings, not services
				to, ours := relative(path)
				if a, b := service(from), service(to); ours && b != "" && a != b && a != "deploy/standalone" {
					t.Errorf("a test of %s imports %s: services never import each other", from, to)
				}
			}
		}
	}
	for _, line := range unused(rules) {
		t.Errorf("policy line %q allows what nobody does any more: remove it", line)
	}
}

func TestEachThirdPartyDependencyHasItsHome(t *testing.T) {
	rules := parsePolicy(t, homePolicy)
	for _, dir := range modules {
		external := make(map[string]string) // package → its module
		packages := list(t, dir, "-deps", "./...")
		for _, p := range packages {
			if p.Module != nil {
				external[p.ImportPath] = p.Module.Path
			}
		}
		for _, p := range packages {
			from, ours := relative(p.ImportPath)
			if !ours || harness(from) {
				continue
			}
			for _, path := range p.Imports {
				dependency := external[path]
				if _, ours := relative(dependency); dependency == "" || ours {
					continue // of the standard library, or of the project
				}
				if !allowed(rules, dependency, from) {
					t.Errorf("%s imports %s: the home of %s is elsewhere, or policy_table_test.go must name one", from, path, dependency)
				}
			}
		}
	}
	for _, line := range unused(rules) {
		t.Errorf("policy line %q names a home that does not use it: remove it", line)
	}
}

// requires returns the modules that a go.mod names.
func requires(t *testing.T, dir string) (direct, all []string) {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = filepath.Join("..", dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("read %s/go.mod: %v", dir, err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		all = append(all, r.Path)
		if _, ours := relative(r.Path); !r.Indirect && !ours {
			direct = append(direct, r.Path)
		}
	}
	slices.Sort(direct)
	return direct, all
}

func TestTheContractNeedsNothingMore(t *testing.T) {
	direct, _ := requires(t, ".")
	for _, path := range direct {
		if !slices.Contains(rootRequires, path) {
			t.Errorf("go.mod requires %s: whoever imports the contract would get it; it belongs into the module of a service", path)
		}
	}
	for _, path := range rootRequires {
		if !slices.Contains(direct, path) {
			t.Errorf("rootRequires names %s, which go.mod no longer requires: remove it", path)
		}
	}
}

func TestTheAgentLinksNothingThatHasNoBusinessOnEveryHost(t *testing.T) {
	_, paths := requires(t, "agent")
	paths = slices.DeleteFunc(paths, func(path string) bool { return slices.Contains(agentTestOnly, path) })
	for _, p := range list(t, "agent", "-deps", ".") {
		paths = append(paths, p.ImportPath)
	}
	for _, path := range paths {
		for _, forbidden := range agentForbidden {
			if strings.HasPrefix(path+"/", forbidden+"/") {
				t.Errorf("the agent needs %s: %s has no business in a privileged process on every host", path, forbidden)
			}
		}
	}
}

var sqlText = regexp.MustCompile(`(?is)\b(select\s.+\sfrom\s|insert\s+into\s|create\s+(table|view|materialized)|alter\s+table\s|system\s+(start|stop|flush))`)

func TestAllSQLOfTheAnalyzerStandsInTheStore(t *testing.T) {
	walk(t, "../analyzer", func(path string) {
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/internal/store/") || harness(filepath.ToSlash(filepath.Dir(path))) {
			return
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil && sqlText.MatchString(text) {
				t.Errorf("%s holds SQL (%.50q): all SQL of the analyzer stands in analyzer/internal/store", files.Position(lit.Pos()), text)
			}
			return true
		})
	})
}

var (
	written   = regexp.MustCompile(`\.(go|c|h|sh|py|sql)$`)
	generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
)

func TestFilesStayReadable(t *testing.T) {
	walk(t, "..", func(path string) {
		if !written.MatchString(path) || filepath.Base(path) == "vmlinux.h" {
			return
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(data, []byte("\n")); lines > maxLines && !generated.Match(data) {
			t.Errorf("%s has %d lines: above %d a file is hard to read, split it", path, lines, maxLines)
		}
	})
}

// walk calls visit for every file below dir that is not hidden, built or data.
func walk(t *testing.T, dir string, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != dir && (strings.HasPrefix(name, ".") || slices.Contains([]string{"bin", "data", "testdata", "node_modules"}, name)) {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestThePolicyTellsRightFromWrong(t *testing.T) {
	rules := parsePolicy(t, importPolicy)
	for _, tt := range []struct {
		name, from, to, complaint string
	}{
		{"a service uses the contract", "agent/internal/drain", ".", ""},
		{"an app uses its parts", "collector/app", "collector/internal/sink", ""},
		{"the standalone binary composes", "deploy/standalone/app", "agent/app", ""},
		{"a service may not use another", "agent/app", "collector/app", "services never import each other"},
		{"nor its parts", "analyzer/internal/store", "collector/internal/chconn", "services never import each other"},
		{"siblings meet in app", "agent/internal/publish", "agent/internal/probe", "siblings meet in app"},
		{"what all share knows no service", "internal/cli", "agent/app", "may not know a service"},
		{"the analyzer has nothing to do with migrations", "analyzer/internal/store", "migrations", "no line"},
		{"a benchmark joins the parts of its service", "collector/internal/bench", "collector/internal/sink", ""},
		{"but not those of another", "collector/internal/bench", "agent/app", "services never import each other"},
		{"nothing that runs may import a benchmark", "collector/internal/sink", "collector/internal/bench", "siblings meet in app"},
		{"the lab may not look inside", "scripts/lab/internal/demo", "analyzer/app", "services never import each other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := complaint(rules, tt.from, tt.to)
			if (got == "") != (tt.complaint == "") || !strings.Contains(got, tt.complaint) {
				t.Errorf("complaint %q, want %q", got, tt.complaint)
			}
		})
	}
}
