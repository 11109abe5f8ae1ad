package access

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// User is an account in a configuration file.
type User struct {
	Name     string
	Password string   // as an XML element, for example <no_password/>
	Networks []string // from where it may come: addresses or prefixes
	Role     string   // may be empty
	Grants   []string // beside those of the role
	Profile  string   // settings profile, for a user whose role has none
	Quota    string   // quota, for a user whose role has none
}

// XML returns the roles with their profiles and quotas, and users, as the
// sections of a ClickHouse configuration file. profiles and quotas are elements
// of those sections beside the roles' own, as text.
func XML(roles []Role, profiles, quotas string, users []User) string {
	var p, q, r, u writer
	limited := make(map[string]Role)
	for _, role := range roles {
		limited[role.Name] = role
		role.profile(&p)
		role.quota(&q)
		r.line(1, "<%s> <!-- %s -->", role.Name, role.Why)
		r.grants(role.Grants)
		r.line(1, "</%s>", role.Name)
	}
	for _, user := range users {
		user.write(&u, limited[user.Role])
	}
	var all writer
	for _, section := range []struct{ name, text string }{{"profiles", profiles + p.text.String()}, {"quotas", quotas + q.text.String()}, {"roles", r.text.String()}, {"users", u.text.String()}} {
		all.line(0, "<%s>", section.name)
		all.text.WriteString(section.text)
		all.line(0, "</%s>", section.name)
	}
	return all.text.String()
}

func (role Role) profile(w *writer) {
	if len(role.Settings) == 0 {
		return
	}
	w.line(1, "<%s>", role.Name)
	for _, s := range role.Settings {
		if s.Value != "" {
			w.line(2, "<%s>%s</%s>", s.Name, s.Value, s.Name)
		}
	}
	w.line(2, "<constraints>")
	for _, s := range role.Settings {
		if !s.Changeable {
			continue
		}
		bounds := ""
		if s.Min != "" {
			bounds += "<min>" + s.Min + "</min>"
		}
		if s.Max != "" {
			bounds += "<max>" + s.Max + "</max>"
		}
		w.line(3, "<%s>%s<changeable_in_readonly/></%s>", s.Name, bounds, s.Name)
	}
	w.line(2, "</constraints>")
	w.line(1, "</%s>", role.Name)
}

func (role Role) quota(w *writer) {
	if q := role.Quota; q != nil {
		w.line(1, "<%s><interval><duration>%d</duration><queries>%d</queries><execution_time>%d</execution_time></interval></%s>",
			role.Name, q.Seconds, q.Queries, q.ExecutionSeconds, role.Name)
	}
}

func (user User) write(w *writer, role Role) {
	profile, quota, grants := user.Profile, user.Quota, user.Grants
	if len(role.Settings) > 0 {
		profile = role.Name
	}
	if role.Quota != nil {
		quota = role.Name
	}
	if user.Role != "" {
		grants = append([]string{user.Role}, grants...)
	}
	w.line(1, "<%s>", user.Name)
	w.line(2, "%s", user.Password)
	for _, network := range user.Networks {
		w.line(2, "<networks><ip>%s</ip></networks>", escape(network))
	}
	w.line(2, "<profile>%s</profile>", escape(profile))
	w.line(2, "<quota>%s</quota>", escape(quota))
	w.grants(grants)
	w.line(1, "</%s>", user.Name)
}

// writer collects indented lines.
type writer struct{ text strings.Builder }

func (w *writer) line(depth int, format string, args ...any) {
	fmt.Fprintf(&w.text, "%s%s\n", strings.Repeat("  ", depth+1), fmt.Sprintf(format, args...))
}

func (w *writer) grants(grants []string) {
	w.line(2, "<grants>")
	for _, grant := range grants {
		w.line(3, "<query>GRANT %s</query>", escape(grant))
	}
	w.line(2, "</grants>")
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}
