package app

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/ebbwatch/ebbwatch/agent/internal/doctor"
	"github.com/ebbwatch/ebbwatch/agent/internal/privilege"
)

// OwnProcess tells, before Run, that this process is the agent's alone: Run may
// give up its privileges and, to do so, execute its program again.
func (a *App) OwnProcess() { a.own = true }

// needs returns the capabilities that an agent of this configuration needs while
// it runs, and why. A feature that needs more adds its line here, under the
// condition that it is configured.
func (c *Config) needs() []privilege.Need {
	needs := []privilege.Need{
		{Capability: privilege.BPF, Purpose: "read and swap maps"},
		{Capability: privilege.NetAdmin, Purpose: "attach to interfaces that come"},
		{Capability: privilege.Perfmon, Purpose: "let programs use pointers"},
	}
	if c.Interfaces.Namespaces {
		needs = append(needs,
			privilege.Need{Capability: privilege.SysAdmin, Purpose: "enter network namespaces"},
			privilege.Need{Capability: privilege.SysPtrace, Purpose: "find those that have no name"},
			privilege.Need{Capability: privilege.NetBroadcast, Purpose: "hear at once of changes in them"})
	}
	if _, port, err := net.SplitHostPort(c.Listen); err == nil {
		if n, err := strconv.Atoi(port); err == nil && n > 0 && n < 1024 {
			needs = append(needs, privilege.Need{Capability: privilege.NetBindService, Purpose: "listen on port " + port})
		}
	}
	return needs
}

// restartConfined is for a binary that cannot give up the privileges of all its
// threads later: it executes itself again without them, once.
func (a *App) restartConfined() error {
	if !a.own || !a.cfg.DropPrivileges || privilege.CanDrop() {
		return nil
	}
	return orSwitchOff(privilege.Restart(privilege.Needed(a.cfg.needs())))
}

// dropPrivileges is called when everything that needs more has been done.
func (a *App) dropPrivileges() error {
	if !a.own || !a.cfg.DropPrivileges {
		return nil
	}
	if !privilege.CanDrop() { // and executed again without them
		state, err := privilege.Read()
		if err == nil {
			a.log.Info("privileges given up", "kept", state.Permitted, "when", "before any program was loaded")
		}
		return orSwitchOff(err)
	}
	state, err := privilege.Drop(privilege.Needed(a.cfg.needs()))
	if err == nil {
		a.log.Info("privileges given up", "kept", state.Permitted, "when", "once the programs were loaded")
	}
	return orSwitchOff(err)
}

func orSwitchOff(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w (drop_privileges: false runs the agent without it)", err)
}

// privilegeFinding tells what the agent would keep of this process' privileges.
func privilegeFinding(cfg *Config) doctor.Finding {
	f := doctor.Finding{Name: "privileges", Purpose: "keep, once attached, only what is needed", Info: true}
	state, err := privilege.Read()
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	if !cfg.DropPrivileges {
		f.Detail = fmt.Sprintf("drop_privileges is off: the agent would keep all %d capabilities of this process", state.Permitted.Len())
		f.Advice = "set drop_privileges: true"
		return f
	}
	needs := cfg.needs()
	var kept []string
	for _, n := range needs {
		kept = append(kept, fmt.Sprintf("%s (%s)", n.Capability, n.Purpose))
	}
	f.Works = true
	f.Detail = fmt.Sprintf("keeps %s; gives up %d others", strings.Join(kept, ", "), (state.Permitted &^ privilege.Needed(needs)).Len())
	return f
}
