package migrations

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// A table is emptied, filled from what is there before, and then kept up to date by
// a materialized view. The runner leaves the first two out where a view does so already.
var (
	empties = regexp.MustCompile(`^TRUNCATE TABLE ([a-z0-9_]+)$`)
	fills   = regexp.MustCompile(`^INSERT INTO ([a-z0-9_]+)\nSELECT\b`)
	keeps   = regexp.MustCompile(`^CREATE MATERIALIZED VIEW IF NOT EXISTS [a-z0-9_]+ TO ([a-z0-9_]+) AS`)
)

// same matches steps that only comment or set, which can be repeated.
var same = regexp.MustCompile(`^ALTER TABLE [a-z0-9_]+\s+(MODIFY COMMENT|MODIFY SETTING|COMMENT COLUMN IF EXISTS) `)

func TestTheMigrationsOfThisBuildLoadInOrder(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range all {
		if int(m.Version) != i+1 || len(m.Checksum) != 64 {
			t.Errorf("migration %d is %s with version %d and checksum %q", i, m.File, m.Version, m.Checksum)
		}
		empty := make(map[string]bool) // tables
		for n, step := range m.Steps {
			if match := empties.FindStringSubmatch(step); match != nil {
				empty[match[1]] = true
				continue
			}
			if match := keeps.FindStringSubmatch(step); match != nil {
				empty[match[1]] = false
			}
			if match := fills.FindStringSubmatch(step); match != nil && empty[match[1]] {
				continue
			}
			if !strings.HasPrefix(step, "CREATE ") && !strings.HasPrefix(step, "ALTER ") {
				t.Errorf("%s step %d begins with %.40q", m.File, n+1, step)
			}
			// A file that failed in the middle runs again from its start.
			if !strings.Contains(step, "IF NOT EXISTS") && !strings.Contains(step, "OR REPLACE") && !same.MatchString(step) {
				t.Errorf("%s step %d cannot run twice: %.60q", m.File, n+1, step)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		steps [][]string // of each file
		fails string
	}{
		"steps are cut at the line, comments before them are dropped": {
			files: map[string]string{"0001_a.sql": "-- why\n\nCREATE a (\n  -- inside\n  b);\n-- step\n\n-- note\nCREATE c\n"},
			steps: [][]string{{"CREATE a (\n  -- inside\n  b)", "CREATE c"}},
		},
		"carriage returns and spaces around the line do not matter": {
			files: map[string]string{"0001_a.sql": "CREATE a;\r\n -- step \r\nCREATE b;\r\n"},
			steps: [][]string{{"CREATE a", "CREATE b"}},
		},
		"files come in the order of their numbers": {
			files: map[string]string{"0002_b.sql": "B", "0001_c.sql": "C"},
			steps: [][]string{{"C"}, {"B"}},
		},
		"a gap is refused":                  {files: map[string]string{"0001_a.sql": "A", "0003_b.sql": "B"}, fails: "want number 0002"},
		"a number twice is refused":         {files: map[string]string{"0001_a.sql": "A", "0001_b.sql": "B"}, fails: "want number 0002"},
		"another name is refused":           {files: map[string]string{"first.sql": "A"}, fails: "want a name like"},
		"a file without steps is refused":   {files: map[string]string{"0001_a.sql": "-- nothing\n"}, fails: "holds no statement"},
		"a folder without files is refused": {files: map[string]string{}, fails: "there are none"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for name, text := range test.files {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			all, err := Load(fsys)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("error is %v, want one with %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var steps [][]string
			for _, m := range all {
				steps = append(steps, m.Steps)
			}
			if !reflect.DeepEqual(steps, test.steps) {
				t.Errorf("steps are %q, want %q", steps, test.steps)
			}
		})
	}
}

func TestTheChecksumCoversEveryByte(t *testing.T) {
	sum := func(text string) string {
		all, err := Load(fstest.MapFS{"0001_a.sql": &fstest.MapFile{Data: []byte(text)}})
		if err != nil {
			t.Fatal(err)
		}
		return all[0].Checksum
	}
	if sum("CREATE a") == sum("CREATE a\n") {
		t.Error("an added line end does not change the checksum")
	}
}
