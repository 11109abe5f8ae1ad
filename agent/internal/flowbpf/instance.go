package flowbpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// programs are one instance of the datapath's programs, by direction. Each
// network namespace has one, because an interface's index alone does not tell
// which interface it is; they share all maps.
type programs [2]*ebpf.Program

// instance returns the programs for a network namespace, and loads them if they
// are the first.
func (d *Datapath) instance(netns uint32) (*programs, error) {
	if netns == 0 {
		return &programs{d.objs.EbbIngress, d.objs.EbbEgress}, nil
	}
	if p := d.instances[netns]; p != nil {
		return p, nil
	}
	if d.mode == AttachTC {
		if err := removeStaleTCFilters(); err != nil {
			return nil, fmt.Errorf("remove stale tc filters: %w", err)
		}
	}
	spec := d.spec.Copy()
	if err := spec.Variables[objects.FlowVarEbbNetns].Set(netns); err != nil {
		return nil, fmt.Errorf("set %s: %w", objects.FlowVarEbbNetns, err)
	}
	delete(spec.Programs, objects.FlowProgEbbEmpty)
	var objs struct {
		Ingress *ebpf.Program `ebpf:"ebb_ingress"`
		Egress  *ebpf.Program `ebpf:"ebb_egress"`
	}
	if err := spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{MapReplacements: d.maps}); err != nil {
		return nil, fmt.Errorf("load programs for another network namespace: %w", err)
	}
	d.instances[netns] = &programs{objs.Ingress, objs.Egress}
	return d.instances[netns], nil
}

// Forget frees the programs of a network namespace that is gone, or of which
// nothing is attached any more, and lets go of what was attached there. Filters of
// tc went with their interfaces: unlike Detach, it may be called anywhere. What
// was counted there is part of the next drain.
func (d *Datapath) Forget(netns uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for place, a := range d.attached {
		if place.NetNS == netns && netns != 0 {
			a.filters = nil
			errs = append(errs, d.detach(place))
		}
	}
	if p := d.instances[netns]; p != nil {
		delete(d.instances, netns)
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

func (p *programs) close() error { return errors.Join(p[Ingress].Close(), p[Egress].Close()) }
