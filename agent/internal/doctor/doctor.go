// Package doctor tells whether the agent can run on this host, which of its
// features work, and what to do about the rest.
package doctor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/owner"
	"github.com/ebbwatch/ebbwatch/agent/internal/seed"
	"github.com/ebbwatch/ebbwatch/agent/internal/trace"
)

// Finding is one line of the diagnosis.
type Finding struct {
	Name     string `json:"name"`             // short and stable
	Purpose  string `json:"purpose"`          // what the agent uses it for
	Works    bool   `json:"works"`            //
	Required bool   `json:"required"`         // the agent cannot run without it
	Untested bool   `json:"untested"`         // could not be tried, so that it does not work says nothing
	Info     bool   `json:"info"`             // about the surroundings: no fault of this host
	Detail   string `json:"detail,omitempty"` // what was found, or why it does not work
	Advice   string `json:"advice,omitempty"` // what to do if it does not work
}

// Report is the whole diagnosis.
type Report struct {
	CanRun   bool      `json:"can_run"`
	Kernel   string    `json:"kernel"`
	Findings []Finding `json:"findings"`
}

// oldest kernel that the agent supports.
const oldestMajor, oldestMinor = 5, 15

// Diagnose tries everything on this kernel, with this process' privileges. It
// leaves nothing behind. extra findings stand at the end.
func Diagnose(extra ...Finding) Report {
	r := Report{Kernel: kernel()}
	r.Findings = append(r.Findings, kernelFinding(r.Kernel))
	r.Findings = append(r.Findings, capabilityFindings()...)
	r.Findings = append(r.Findings, featureFindings()...)
	r.Findings = append(r.Findings, extra...)
	r.CanRun = true
	for _, f := range r.Findings {
		r.CanRun = r.CanRun && (f.Works || !f.Required)
	}
	return r
}

// featureFindings tries what the datapath needs of the kernel.
func featureFindings() []Finding {
	lacking, err := missing()
	privileged := err == nil && len(lacking) == 0
	needs := "needs " + Needed
	if len(lacking) > 0 {
		needs = "needs " + strings.Join(lacking, ", ")
	}
	var findings []Finding
	attach := Finding{Name: "attach", Purpose: "hook interfaces by tcx or tc", Required: true}
	features := slices.Concat(flowbpf.Probe(privileged), owner.Probe(privileged), seed.Probe(privileged), trace.Probe(privileged))
	for _, f := range features {
		finding := Finding{Name: f.Name, Purpose: f.Need, Works: f.Err == nil, Required: f.Required}
		switch {
		case errors.Is(f.Err, flowbpf.ErrNotTested):
			finding.Untested, finding.Detail = true, needs
		case f.Err != nil:
			finding.Detail, finding.Advice = reason(f.Err), advice(f.Name, f.Err)
		case f.Name == "tcx" || f.Name == "tc":
			attach.Works = true
		}
		findings = append(findings, finding)
	}
	switch {
	case !privileged:
		attach.Untested, attach.Detail = true, needs
	case !attach.Works:
		attach.Advice = "use a kernel with tcx (Linux 6.6), or load the module sch_ingress for tc"
	}
	return append(findings, attach)
}

func unless(ok bool, advice string) string {
	if ok {
		return ""
	}
	return advice
}

// reason is err in one line, without the library's guess at RLIMIT_MEMLOCK,
// which limits no map since Linux 5.11.
func reason(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	line, _, _ = strings.Cut(line, " (MEMLOCK may be too low")
	return line
}

// advice says what to do about a feature of the kernel that this process, with
// all privileges that it needs, found missing.
func advice(name string, err error) string {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EPERM) {
		return "the capabilities are there, but something else forbids it: a user namespace, a seccomp profile, a security module, or kernel lockdown"
	}
	switch name {
	case "tcx":
		return "nothing: tc is used instead; Linux 6.6 brings tcx"
	case "tc":
		return "nothing where tcx works; else load the modules sch_ingress and cls_bpf"
	case "jit":
		return "sysctl net.core.bpf_jit_enable=1 on the host itself: in another network namespace, as a container has, the setting does not show; or use a kernel built with CONFIG_BPF_JIT"
	case "btf":
		return "use a kernel built with CONFIG_DEBUG_INFO_BTF"
	case "owner":
		const without = "; without it sockets that live shorter than a scan have no owner (owner_scan finds the others)"
		if errors.Is(err, owner.ErrNoCgroup2) {
			return "mount one where the agent sees it, before it starts: mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2; give a container the host's /sys/fs/cgroup and the host's cgroup namespace" + without
		}
		return "use Linux 5.15 or later, built with CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF" + without
	case "drops":
		return "use Linux 5.17 or later, built with CONFIG_DEBUG_INFO_BTF; the agent runs without"
	case "owner_scan", "owner_mptcp", "owner_cgroup", "seed", "retransmits":
		return "use a kernel built with CONFIG_DEBUG_INFO_BTF and CONFIG_BPF_SYSCALL, 5.15 or later; the agent runs without"
	}
	return fmt.Sprintf("use Linux %d.%d or later with BPF enabled", oldestMajor, oldestMinor)
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func kernelFinding(release string) Finding {
	f := Finding{Name: "kernel", Purpose: fmt.Sprintf("Linux %d.%d or later", oldestMajor, oldestMinor), Required: true, Detail: release}
	parts := strings.SplitN(release, ".", 3)
	if len(parts) >= 2 {
		major, _ := strconv.Atoi(parts[0])
		minor, _ := strconv.Atoi(strings.TrimRightFunc(parts[1], func(r rune) bool { return r < '0' || r > '9' }))
		f.Works = major > oldestMajor || major == oldestMajor && minor >= oldestMinor
	}
	f.Advice = unless(f.Works, fmt.Sprintf("upgrade to Linux %d.%d or later", oldestMajor, oldestMinor))
	return f
}

// capability is one that the agent needs.
type capability struct {
	name    string
	bit     uint
	purpose string
}

// Needed names the capabilities that the agent needs.
const Needed = "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"

// capabilities lists what the agent needs; CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON.
func capabilities() []capability {
	return []capability{
		{"CAP_BPF", unix.CAP_BPF, "load programs and maps"},
		{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, "attach to interfaces"},
		{"CAP_PERFMON", unix.CAP_PERFMON, "let programs use pointers and the verifier's full checks"},
	}
}

// Privileges returns nil if this process has the capabilities that the agent
// needs, else an error that names the missing ones and says how to grant them.
func Privileges() error {
	names, err := missing()
	if err != nil {
		return fmt.Errorf("read this process' capabilities: %w", err)
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("the agent lacks %s: run it as root, or grant it with AmbientCapabilities= in its systemd unit or setcap on its binary", strings.Join(names, ", "))
}

// missing names the capabilities that the agent needs and this process lacks.
func missing() ([]string, error) {
	effective, err := effectiveCapabilities()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range capabilities() {
		if !has(effective, c) {
			names = append(names, c.name)
		}
	}
	return names, nil
}

func has(effective uint64, c capability) bool {
	if effective&(1<<c.bit) != 0 {
		return true
	}
	return c.bit != unix.CAP_NET_ADMIN && effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func capabilityFindings() []Finding {
	effective, err := effectiveCapabilities()
	var findings []Finding
	for _, c := range capabilities() {
		f := Finding{Name: strings.ToLower(c.name), Purpose: c.purpose, Required: true, Works: err == nil && has(effective, c)}
		f.Advice = unless(f.Works, "run as root, or grant "+c.name)
		if err != nil {
			f.Detail = err.Error()
		}
		findings = append(findings, f)
	}
	return findings
}

func effectiveCapabilities() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "CapEff:"); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		}
	}
	return 0, errors.New("no CapEff in /proc/self/status")
}

// WriteText writes the report as a table.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FEATURE\tSTATE\tUSED TO\tWHY, AND WHAT TO DO")
	for _, f := range r.Findings {
		state := "works"
		switch {
		case f.Untested:
			state = "not tested"
		case !f.Works && f.Info:
			state = "not there"
		case !f.Works && f.Required:
			state = "MISSING"
		case !f.Works:
			state = "missing (optional)"
		}
		why := f.Detail
		if f.Advice != "" {
			why = strings.TrimPrefix(why+"; "+f.Advice, "; ")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Name, state, f.Purpose, why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "The agent can run here."
	if !r.CanRun {
		verdict = "The agent cannot run here."
	}
	_, err := fmt.Fprintf(w, "\nKernel %s. %s\n", r.Kernel, verdict)
	return err
}

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
