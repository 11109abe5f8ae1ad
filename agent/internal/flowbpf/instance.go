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

// Forget frees the programs of a network namespace of which nothing is attached
// any more.
func (d *Datapath) Forget(netns uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.instances[netns]
	if p == nil {
		return nil
	}
	delete(d.instances, netns)
	return p.close()
}

func (p *programs) close() error { return errors.Join(p[Ingress].Close(), p[Egress].Close()) }
