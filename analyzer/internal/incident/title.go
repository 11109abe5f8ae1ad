package incident

import (
	"cmp"
	"slices"
	"strings"
)

// words are the kinds of findings as a title names them.
func words(kind string) string {
	switch kind {
	case "syn_flood":
		return "SYN flood"
	case "volume":
		return "traffic flood"
	case "port_scan":
		return "port scan"
	case "host_scan":
		return "host scan"
	case "wide_scan":
		return "wide scan"
	case "exfiltration":
		return "possible exfiltration"
	}
	return strings.ReplaceAll(kind, "_", " ")
}

// title names the kinds in the order in which they began, and the address that
// most findings are about (among equals: the smallest).
func title(s *state) string {
	counts := make(map[string]int)
	var episodes []*episode
	for _, e := range s.findings {
		episodes = append(episodes, e)
		for _, address := range addressesOf(e.finding.Entity) {
			counts[address]++
		}
	}
	slices.SortFunc(episodes, func(a, b *episode) int { return byStart(a.finding, b.finding) })
	var kinds []string
	for _, e := range episodes {
		if w := words(e.finding.Kind); !slices.Contains(kinds, w) {
			kinds = append(kinds, w)
		}
	}
	main := ""
	for address, n := range counts {
		if main == "" || cmp.Or(cmp.Compare(counts[main], n), cmp.Compare(address, main)) < 0 {
			main = address
		}
	}
	text := join(kinds)
	if text != "" {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	if main == "" {
		return text
	}
	if len(s.findings) == 1 {
		if e := episodes[0].finding.Entity; e.Src != "" && e.Dst != "" {
			return text + ": " + e.Src + " to " + e.Dst
		}
	}
	return text + " around " + main
}

func join(items []string) string {
	if len(items) < 2 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:len(items)-1], ", ") + " and " + items[len(items)-1]
}
