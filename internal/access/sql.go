package access

import (
	"fmt"
	"strconv"
	"strings"
)

// SQL returns the statements that make the roles on a server, one a paragraph.
// They can run again: what a role may no longer do is taken from it.
func SQL(roles []Role) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, role := range roles {
		add("-- %s: %s.\nCREATE ROLE IF NOT EXISTS %s", role.Name, role.Why, role.Name)
		add("REVOKE ALL ON *.* FROM %s", role.Name)
		for _, grant := range role.Grants {
			add("GRANT %s TO %s", grant, role.Name)
		}
		if len(role.Settings) > 0 {
			settings := make([]string, len(role.Settings))
			for i, s := range role.Settings {
				settings[i] = "    " + s.sql()
			}
			add("CREATE SETTINGS PROFILE OR REPLACE %s SETTINGS\n%s\nTO %s", role.Name, strings.Join(settings, ",\n"), role.Name)
		}
		if q := role.Quota; q != nil {
			add("CREATE QUOTA OR REPLACE %s KEYED BY user_name FOR INTERVAL %d second MAX queries = %d, execution_time = %d TO %s",
				role.Name, q.Seconds, q.Queries, q.ExecutionSeconds, role.Name)
		}
	}
	return out
}

func (s Setting) sql() string {
	text := s.Name
	for _, part := range []struct{ word, value string }{{" = ", s.Value}, {" MIN ", s.Min}, {" MAX ", s.Max}} {
		if _, err := strconv.ParseFloat(part.value, 64); err == nil {
			text += part.word + part.value
		} else if part.value != "" {
			text += part.word + "'" + part.value + "'"
		}
	}
	if s.Changeable {
		return text + " CHANGEABLE_IN_READONLY"
	}
	return text
}
