package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbwatch/ebbwatch/analyzer/internal/detect"
	"github.com/ebbwatch/ebbwatch/analyzer/internal/store"
)

// query reads the parameters of one request. The first that is wrong is kept.
type query struct {
	r      *http.Request
	values url.Values
	known  map[string]bool
	err    error
}

func newQuery(r *http.Request) *query {
	values, err := url.ParseQuery(r.URL.RawQuery)
	q := &query{r: r, values: values, known: map[string]bool{}}
	if err != nil {
		q.refuse("the query string cannot be read")
	}
	return q
}

func (q *query) refuse(format string, args ...any) {
	if q.err == nil {
		q.err = &problem{http.StatusBadRequest, "invalid_parameter", fmt.Sprintf(format, args...)}
	}
}

// get returns a parameter that may stand there once.
func (q *query) get(name string) string {
	q.known[name] = true
	if len(q.values[name]) > 1 {
		q.refuse("%s: stands there %d times", name, len(q.values[name]))
	}
	return q.values.Get(name)
}

// done reports the first wrong parameter, or one that was not asked for: a
// misspelled filter must not silently filter nothing.
func (q *query) done() error {
	for _, name := range slices.Sorted(maps.Keys(q.values)) {
		if !q.known[name] {
			q.refuse("%.40q is not a parameter here; there are: %s", name, strings.Join(slices.Sorted(maps.Keys(q.known)), ", "))
		}
	}
	return q.err
}

// Bounds of paging.
const (
	defaultLimit = 100
	maxLimit     = 1000
	maxOffset    = 100_000
)

func (q *query) page() store.Page {
	return store.Page{Limit: q.number("limit", defaultLimit, 1, maxLimit), Offset: q.number("offset", 0, 0, maxOffset)}
}

func (q *query) number(name string, def, least, most int) int {
	text := q.get(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		q.refuse("%s: want a number from %d to %d", name, least, most)
		return def
	}
	return n
}

func (q *query) time(name string) time.Time {
	text := q.get(name)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Year() < 1971 || t.Year() > 2200 {
		q.refuse("%s: want a time as 2026-01-02T15:04:05Z (a + in it is written %%2B)", name)
		return time.Time{}
	}
	return t.UTC()
}

var (
	validID   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	validKind = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)
)

func (q *query) matching(name string, re *regexp.Regexp) string {
	text := q.get(name)
	if text != "" && !re.MatchString(text) {
		q.refuse("%s: want %s", name, re)
		return ""
	}
	return text
}

func (q *query) oneOf(name string, values ...string) string {
	text := q.get(name)
	if text != "" && !slices.Contains(values, text) {
		q.refuse("%s: want one of %s", name, strings.Join(values, ", "))
		return ""
	}
	return text
}

func (q *query) severity(name string) detect.Severity {
	var s detect.Severity
	if text := q.get(name); text != "" && s.UnmarshalText([]byte(text)) != nil {
		q.refuse("%s: want info, low, medium, high or critical", name)
	}
	return s
}

// address returns an IP address in the form that the store uses.
func (q *query) address(name string) string {
	text := q.get(name)
	if text == "" {
		return ""
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" {
		q.refuse("%s: want an IP address", name)
		return ""
	}
	return ip.Unmap().String()
}

// id returns the id in the path.
func (q *query) id() string {
	id := q.r.PathValue("id")
	if !validID.MatchString(id) {
		q.refuse("id: want %s", validID)
	}
	return id
}
