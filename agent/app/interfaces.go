package app

import (
	"fmt"
	"strings"

	"github.com/ebbwatch/ebbwatch/agent/internal/doctor"
	"github.com/ebbwatch/ebbwatch/agent/internal/owner"
	"github.com/ebbwatch/ebbwatch/agent/internal/probe"
)

// maxListed is how many interfaces, and how many namespaces, the doctor names.
const maxListed = 20

// interfacesFinding tells what an agent of this configuration would watch here, in
// each network namespace.
func interfacesFinding(cfg *Config) doctor.Finding {
	f := doctor.Finding{Name: "interfaces", Purpose: "watch what carries packets of its own", Info: true}
	list, refused, err := probe.Survey(cfg.Interfaces, owner.Container)
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	var parts, failed []string
	watched, more := 0, 0
	for _, s := range list {
		watched += len(s.Interfaces)
		name := ""
		if s.NetNS != "" {
			name = " in " + s.NetNS
		}
		switch {
		case s.Err != nil:
			failed = append(failed, fmt.Sprintf("cannot look into %s: %v", s.NetNS, s.Err))
		case len(s.Interfaces) > 0 && len(parts) == maxListed:
			more++
		case len(s.Interfaces) > 0:
			parts = append(parts, some(s.Interfaces)+name)
		}
	}
	f.Works = watched > 0
	f.Detail = "none"
	if f.Works {
		f.Detail = strings.Join(parts, "; ")
	} else {
		f.Advice = "check interfaces.include and interfaces.exclude; the agent waits for an interface"
	}
	if more > 0 {
		f.Detail += fmt.Sprintf("; and in %d more network namespaces", more)
	}
	if refused > 0 {
		f.Detail += fmt.Sprintf("; %d network namespaces are left out", refused)
		f.Advice = "raise interfaces.max_namespaces"
	}
	if len(failed) > 0 {
		f.Detail += "; " + some(failed)
		f.Advice = "interfaces.namespaces needs CAP_SYS_ADMIN: grant it, or switch it off"
	}
	if room := int(cfg.Datapath.MaxInterfaces); watched > room {
		f.Detail += fmt.Sprintf("; %d are wanted and %d have room", watched, room)
		f.Advice = "raise datapath.max_interfaces"
	}
	return f
}

// some joins the first of a list.
func some(list []string) string {
	if len(list) > maxListed {
		return strings.Join(list[:maxListed], ", ") + fmt.Sprintf(", and %d more", len(list)-maxListed)
	}
	return strings.Join(list, ", ")
}
