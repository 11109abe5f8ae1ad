package owner

import (
	"os"
	"path/filepath"
	"strconv"
)

// Container returns the id of the container that the process is in, "" if it is
// in none or cannot be looked at. The id is as long as its cgroup has it, cut to
// the 12 digits that container managers show.
func Container(pid int) string {
	cgroups, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return ""
	}
	return short(parseCgroups(string(cgroups)).container)
}

func short(id string) string {
	const shown = 12
	return id[:min(len(id), shown)]
}
