package schema_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/chconn"
	"github.com/ebbwatch/ebbwatch/collector/internal/natstest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
	"github.com/ebbwatch/ebbwatch/internal/config"
)

const (
	questionsPage = "../../../docs/sql.md"
	questionsData = "testdata/questions.sql"
	answersFile   = "testdata/questions.answers"
)

// question is one of docs/sql.md.
type question struct{ title, query string }

var questionForm = regexp.MustCompile("(?s)### ([^\n]+)\n\n```sql\n(.*?)\n```\n\n(?:[^#`\n]|`[^`])")

// questions returns those of docs/sql.md; each has a query, and then a sentence
// that says how to read the answer.
func questions(t *testing.T) []question {
	t.Helper()
	page, err := os.ReadFile(questionsPage)
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	var found []question
	for _, section := range strings.Split(text, "\n### ")[1:] {
		match := questionForm.FindStringSubmatch("### " + section)
		if match == nil || strings.Count(section, "```sql") != 1 {
			t.Errorf("want a query and a sentence on how to read its answer below: %.60q", section)
			continue
		}
		found = append(found, question{title: match[1], query: match[2]})
	}
	if n := strings.Count(text, "```sql"); n != len(found) || n < 30 {
		t.Errorf("docs/sql.md has %d queries, %d of them below a question, want at least 30", n, len(found))
	}
	return found
}

// moment stands for every time in an answer: they follow the clock.
var moment = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?`)

// Every query of docs/sql.md gives the known answer of testdata, as a reader.
func TestTheQueriesOfTheDocumentGiveTheKnownAnswers(t *testing.T) {
	b := &bed{ch: chtest.Start(t), nats: natstest.Start(t)}
	b.js = b.nats.JetStream(t)
	b.conn = chconn.Config{Address: b.ch.Addr, Database: b.ch.NewDatabase(t), User: chtest.Collector, Password: config.Secret(b.ch.CollectorPassword), Compression: "none"}
	if _, err := b.migrator(t, shipped(t)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(questionsData)
	if err != nil {
		t.Fatal(err)
	}
	base := "toDateTime64('" + time.Now().UTC().Format(time.DateTime) + "', 3, 'UTC')"
	for step := range strings.SplitSeq(string(data), "\n-- step\n") {
		b.ch.Query(t, strings.NewReplacer("INSERT INTO ", "INSERT INTO "+b.conn.Database+".", "ALTER TABLE ", "ALTER TABLE "+b.conn.Database+".", "now64(3)", base).Replace(step))
	}
	b.answer(t)
}

// answer compares the answers of every query of docs/sql.md with the known ones.
func (b *bed) answer(t *testing.T) {
	t.Helper()
	var got strings.Builder
	for _, q := range questions(t) {
		answer, err := b.ch.QueryIn(chtest.Reader, b.conn.Database, q.query)
		if err != nil {
			t.Errorf("%s: %v", q.title, err)
		}
		if strings.TrimSpace(answer) == "" {
			t.Errorf("%s: no row", q.title)
		}
		fmt.Fprintf(&got, "%s\n%s\n\n", q.title, strings.ReplaceAll(moment.ReplaceAllString(answer, "TIME"), "\t", " | "))
	}
	if *update {
		if err := os.WriteFile(answersFile, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(answersFile)
	if err != nil {
		t.Fatal(err)
	}
	wanted := strings.Split(string(want), "\n")
	for i, line := range strings.Split(got.String(), "\n") {
		if i >= len(wanted) || line != wanted[i] {
			t.Fatalf("%s, line %d: the queries give\n%s\nwant\n%s\nCheck the answer by hand against %s; then -update.", answersFile, i+1, line, strings.Join(wanted[min(i, len(wanted)):min(i+1, len(wanted))], ""), questionsData)
		}
	}
	if len(wanted) != strings.Count(got.String(), "\n")+1 {
		t.Errorf("%s has %d lines, the queries give %d", answersFile, len(wanted), strings.Count(got.String(), "\n")+1)
	}
}
