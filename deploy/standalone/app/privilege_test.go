package app

import (
	"slices"
	"strings"
	"testing"
)

func TestMissingCapabilitiesAreNamed(t *testing.T) {
	for _, c := range []struct {
		name, status string
		want         []string
	}{
		{"root has all", "Name:\tx\nCapEff:\t000001ffffffffff\n", nil},
		{"the three suffice", "CapEff:\t000000c000001000\n", nil},
		{"sys_admin stands for two of them", "CapEff:\t0000000000201000\n", nil},
		{"a plain user has none", "CapEff:\t0000000000000000\n", []string{"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"}},
		{"sys_admin is not net_admin", "CapEff:\t0000000000200000\n", []string{"CAP_NET_ADMIN"}},
		{"perfmon alone is missing", "CapEff:\t0000008000001000\n", []string{"CAP_PERFMON"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bits, err := effectiveCapabilities(strings.NewReader(c.status))
			if err != nil {
				t.Fatal(err)
			}
			if got := missingCapabilities(bits); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAStatusWithoutCapabilitiesIsAnError(t *testing.T) {
	for _, status := range []string{"", "Name:\tx\n", "CapEff:\tzz\n"} {
		if bits, err := effectiveCapabilities(strings.NewReader(status)); err == nil {
			t.Errorf("%q: got %x", status, bits)
		}
	}
}
