package app_test

import (
	"strings"
	"testing"
)

func TestDoctorTellsWhatWouldBeWatched(t *testing.T) {
	if !isolated(t) {
		return
	}
	c := newHost(t)
	c.plug("veth1", "eth0", "10.9.0.2/24")
	c.call("blue")
	t.Setenv("EBBWATCH_INTERFACES_EXCLUDE", "[veth*]")
	if out, _ := execute(t, "doctor"); !strings.Contains(out, "check interfaces.include and interfaces.exclude") {
		t.Errorf("with nothing to watch:\n%s", out)
	}
	t.Setenv("EBBWATCH_INTERFACES_NAMESPACES", "true")
	out, _ := execute(t, "doctor")
	for _, want := range []string{"eth0 in blue", "CAP_SYS_ADMIN (enter network namespaces)"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
