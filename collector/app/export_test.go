package app

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ebbwatch/ebbwatch/internal/chtest"
)

// export writes the answer to a query of the reader into a file, as curl -o does.
func (s *store) export(query, path string) {
	s.Helper()
	f, err := os.Create(path)
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	answer := s.post(chtest.Reader, "", "", strings.NewReader(query))
	if _, err := io.Copy(f, answer); err != nil {
		s.Fatal(err)
	}
}

// post sends a request to the HTTP interface as people do, and returns the answer.
func (s *store) post(user, password, query string, body io.Reader) *bytes.Buffer {
	s.Helper()
	values := url.Values{"user": {user}, "password": {password}, "database": {s.cfg.ClickHouse.Database}}
	if query != "" {
		values.Set("query", query)
	}
	resp, err := http.Post("http://"+s.ch.HTTPAddr+"/?"+values.Encode(), "", body)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(resp.Body); err != nil {
		s.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		s.Fatalf("%s: %s", query, &answer)
	}
	return &answer
}

var formatName = regexp.MustCompile(`FORMAT ([A-Za-z]+)`)

// exported tries each format that docs/import.md names: the reader writes a file,
// and the engine reads it into a table of the same rows.
func exported(s *store) {
	page, err := os.ReadFile("../../docs/import.md")
	if err != nil {
		s.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n# Export\n")
	if !ok {
		s.Fatal("docs/import.md has no part on exports")
	}
	var formats []string
	for _, match := range formatName.FindAllStringSubmatch(section, -1) {
		formats = append(formats, match[1])
	}
	_, others, _ := strings.Cut(section, "Others are ")
	others, _, _ = strings.Cut(others, ".")
	formats = append(formats, strings.FieldsFunc(strings.ReplaceAll(others, " and ", ", "), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })...)
	slices.Sort(formats)
	formats = slices.Compact(formats)
	for _, want := range []string{"Arrow", "ArrowStream", "CSVWithNames", "JSONEachRow", "Parquet"} {
		if !slices.Contains(formats, want) {
			s.Errorf("docs/import.md does not tell of %s, but of %v", want, formats)
		}
	}
	s.must("zeek", zeekDay, "--shift", "now")
	s.must("csv", s.lines(5000))
	for _, format := range formats {
		path := filepath.Join(s.TempDir(), "flows."+format)
		s.export("SELECT * FROM flows FORMAT "+format, path)
		data, err := os.ReadFile(path)
		if err != nil {
			s.Fatal(err)
		}
		if strings.HasPrefix(format, "Markdown") { // which only people read
			if n := bytes.Count(data, []byte("\n")); n != 5010+2 {
				s.Errorf("%s has %d lines", format, n)
			}
			continue
		}
		table := "back_" + strings.ToLower(format)
		s.query("CREATE TABLE DB." + table + " AS DB.flows")
		s.post(chtest.Collector, s.ch.CollectorPassword, "INSERT INTO "+table+" FORMAT "+format, bytes.NewReader(data))
		s.want("SELECT count() FROM DB."+table, "5010")
		s.want("SELECT (SELECT (sum(cityHash64(*)), count()) FROM DB.flows) = (SELECT (sum(cityHash64(*)), count()) FROM DB."+table+")", "1")
		s.Logf("%s: %d bytes", format, len(data))
	}
}
