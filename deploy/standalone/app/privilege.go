package app

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errPrivilege is wrapped by the errors of checkPrivileges.
var errPrivilege = errors.New("missing privilege")

// neededCapabilities are what the agent needs to load and attach its programs.
// CAP_SYS_ADMIN stands for those that it was split into.
var neededCapabilities = []struct {
	name   string
	bit    uint
	admins bool
}{
	{"CAP_BPF", unix.CAP_BPF, true},
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, false},
	{"CAP_PERFMON", unix.CAP_PERFMON, true},
}

// checkPrivileges says what to grant if this process may not watch traffic.
func checkPrivileges() error {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return fmt.Errorf("check privileges: %w", err)
	}
	defer f.Close()
	effective, err := effectiveCapabilities(f)
	if err != nil {
		return err
	}
	if missing := missingCapabilities(effective); len(missing) > 0 {
		binary, err := os.Executable()
		if err != nil {
			binary = "ebbwatch"
		}
		return fmt.Errorf("%w: the agent lacks %s: run as root, or grant them with `setcap cap_bpf,cap_net_admin,cap_perfmon+ep %s`",
			errPrivilege, strings.Join(missing, ", "), binary)
	}
	return nil
}

func missingCapabilities(effective uint64) []string {
	var missing []string
	admin := effective&(1<<unix.CAP_SYS_ADMIN) != 0
	for _, c := range neededCapabilities {
		if effective&(1<<c.bit) == 0 && (!c.admins || !admin) {
			missing = append(missing, c.name)
		}
	}
	return missing
}

// effectiveCapabilities reads the line CapEff of /proc/self/status.
func effectiveCapabilities(status io.Reader) (uint64, error) {
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "CapEff:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("check privileges: %w", err)
			}
			return bits, nil
		}
	}
	return 0, errors.New("check privileges: no CapEff in /proc/self/status")
}
