package detect

import "strings"

// Who is what flow records tell of the initiator beside its address, and what it
// asked for. All of it can be an attacker's words. Fields are "" where nothing is
// known: the process is, if the initiator is a socket of a host with an agent.
type Who struct {
	Process, Unit, Container string
	ServerName               string // DNS question, TLS server name or HTTP Host
}

// Sentence returns what is known as words to follow a summary, with a space
// before them, "" if nothing is. Names are cut, and of their characters only
// those stay of which names of hosts and programs are made.
func (w Who) Sentence() string {
	var b strings.Builder
	if w.Process != "" {
		b.WriteString(" The process is " + word(w.Process, 16))
		if w.Unit != "" {
			b.WriteString(", unit " + word(w.Unit, 64))
		}
		if w.Container != "" {
			b.WriteString(", container " + word(w.Container, 12)) // as container tools write it
		}
		b.WriteByte('.')
	}
	if w.ServerName != "" {
		b.WriteString(" It asked for " + word(w.ServerName, 100) + ".")
	}
	return b.String()
}

func word(name string, limit int) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(".-_@:+", r):
			return r
		}
		return '?'
	}, name)
	return name[:min(len(name), limit)]
}
