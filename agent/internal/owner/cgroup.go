package owner

import (
	"regexp"
	"strings"
)

// place is what the path of a cgroup tells about the processes in it.
type place struct {
	unit, container, pod string
}

// better reports whether p tells more than o: a container is more than a unit.
func (p place) better(o place) bool {
	if (p.container != "") != (o.container != "") {
		return p.container != ""
	}
	if (p.pod != "") != (o.pod != "") {
		return p.pod != ""
	}
	return p.unit != "" && o.unit == ""
}

var (
	// What container managers name the scope of a container under systemd:
	// docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope.
	containerScope = regexp.MustCompile(`^[a-z0-9-]+-([0-9a-f]{12,64})\.scope$`)
	// podman below a unit of its own (quadlet): libpod-payload-ID.
	payload = regexp.MustCompile(`^libpod-(?:payload-)?([0-9a-f]{12,64})$`)
	// containerd told to use systemd by a runtime that does not: …slice:cri-containerd:ID.
	colons = regexp.MustCompile(`:[a-z0-9-]+:([0-9a-f]{12,64})$`)
	// A container by its bare id: below docker, a pod, or of full length; ECS adds "-NUMBER".
	bare = regexp.MustCompile(`^([0-9a-f]{12,64})(?:-[0-9]+)?$`)
	// podUID, kubepods-podUID.slice, kubepods-burstable-podUID.slice. systemd has
	// "_" where the UID has "-"; a static pod's UID is a hash without either.
	podName = regexp.MustCompile(`^(?:kubepods-(?:[a-z]+-)?)?pod([0-9a-f]{8}(?:[_-][0-9a-f]{4}){3}[_-][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice(?::.*)?)?$`)
)

// fullID is the length of a whole container id.
const fullID = 64

// parsePath reads the path of a cgroup below its hierarchy's root.
//
// Of several nested containers or units the outermost is taken: a container or
// a user can give cgroups below its own any name. A user's own units stand behind
// their manager, "user@1000.service/app.service", for the same reason.
func parsePath(path string) place {
	var p place
	parent := ""
	manager := false // p.unit is a user's manager, whose unit is still to come
	for part := range strings.SplitSeq(path, "/") {
		pod := podName.FindStringSubmatch(part)
		id := containerID(part, parent)
		switch {
		case pod != nil && p.pod == "" && p.container == "":
			p.pod = strings.ReplaceAll(pod[1], "_", "-")
			if id != "" {
				p.container = id
			}
		case id != "":
			p.container = id
		case p.pod != "":
		case !strings.HasSuffix(part, ".service") && !strings.HasSuffix(part, ".scope"):
		case p.unit == "":
			p.unit = part
			manager = strings.HasPrefix(part, "user@")
		case manager:
			p.unit += "/" + part
			manager = false
		}
		if p.container != "" {
			break
		}
		parent = part
	}
	p.unit = printable(p.unit)
	return p
}

// containerID returns the id of the container that the part of a path names, or "".
func containerID(part, parent string) string {
	if m := containerScope.FindStringSubmatch(part); m != nil {
		if strings.Contains(part, "conmon-") || (len(m[1]) < fullID && !strings.HasPrefix(part, "docker-") && !strings.HasPrefix(part, "libpod-")) {
			return "" // the monitor of a container, or the scope of something else: run-r0123456789ab.scope
		}
		return m[1]
	}
	if m := payload.FindStringSubmatch(part); m != nil {
		return m[1]
	}
	if m := colons.FindStringSubmatch(part); m != nil {
		return m[1]
	}
	m := bare.FindStringSubmatch(part)
	if m != nil && (len(m[1]) == fullID || parent == "docker" || podName.MatchString(parent)) {
		return m[1]
	}
	return ""
}
