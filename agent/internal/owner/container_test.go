package owner

import (
	"os"
	"strings"
	"testing"
)

func TestContainerOfAProcess(t *testing.T) {
	if got := Container(1 << 30); got != "" {
		t.Errorf("a process that is not there is in %s", got)
	}
	if got := Container(os.Getpid()); len(got) > 12 {
		t.Errorf("this process is in %s", got)
	}
	id := strings.Repeat("0123456789abcdef", 4)
	if got := short(parseCgroups("0::/system.slice/docker-" + id + ".scope\n").container); got != "0123456789ab" {
		t.Error(got)
	}
}
