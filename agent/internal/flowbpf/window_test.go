package flowbpf

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Pages of maps that stay mapped count as memory of the process.
func TestMapsAreNotResident(t *testing.T) {
	d := load(t, nil)
	if err := d.Glances(func(*Glance) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Drain(func([]Entry) {}); err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "bpf-map") && to-from > 4*uint64(os.Getpagesize()) {
			t.Errorf("mapped all the time: %s", line)
		}
	}
}
