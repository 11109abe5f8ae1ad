package flowbpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf/objects"
)

// Errors that callers decide on.
var (
	ErrAttached = errors.New("interface is attached already")
	ErrTooMany  = errors.New("too many interfaces attached")
)

// How the frames of an interface begin: enum ebb_link of bpf/lib/types.h.
const (
	linkUnknown  = 0
	linkEthernet = 1
	linkIP       = 2
)

// attachment is what hooks one interface: tcx links, or tc filters.
type attachment struct {
	links   []link.Link
	filters []*tcFilter
	point   objects.FlowEbbPoint
}

// Attach hooks both directions of the interface, before the programs that are
// there. Of a loopback interface it hooks ingress alone, as every packet passes
// both hooks. It returns ErrAttached if the interface is attached already and its
// hooks are in place: they are not if another interface has taken its index, or
// if somebody removed them. It returns ErrTooMany beyond MaxInterfaces. On a link layer that it does not know
// (InfiniBand, say) everything is counted as other.
//
// peer tells where the other end of a veth pair is, so that the sockets there are
// found: 1 + the id of its network namespace in the place's (IFLA_LINK_NETNSID),
// 0 for none. For an interface that is attached already the new one counts.
//
// The tcx links and their programs end with the process, however it ends.
//
// It must be called on a thread that is in the place's network namespace, and so
// must Detach where tc is in use.
func (d *Datapath) Attach(place Place, peer uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a := d.attached[place]; a != nil {
		if a.hooked(int(place.Ifindex)) {
			if err := d.follow(a, peer); err != nil {
				return err
			}
			return ErrAttached
		}
		if err := d.detach(place); err != nil { // what is left of it
			return err
		}
	}
	if len(d.attached) >= int(d.cfg.MaxInterfaces) {
		return ErrTooMany
	}
	ifindex := int(place.Ifindex)
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return fmt.Errorf("find interface %d: %w", ifindex, err)
	}
	progs, err := d.instance(place.NetNS)
	if err != nil {
		return err
	}
	a := &attachment{point: objects.FlowEbbPoint{Ifindex: place.Ifindex, Netns: place.NetNS, Link: linkOf(l.Attrs().EncapType), Peer: peer}}
	if err := d.register(place, &a.point); err != nil {
		return err
	}
	d.attached[place] = a
	dirs := []Direction{Ingress, Egress}
	if l.Attrs().EncapType == "loopback" {
		dirs = dirs[:1]
	}
	for _, dir := range dirs {
		if err := d.hook(a, ifindex, dir, progs[dir]); err != nil {
			return errors.Join(fmt.Errorf("attach %s %s of interface %d: %w", d.mode, dir, ifindex, err), d.detach(place))
		}
	}
	return nil
}

// follow changes where the other end of an attached interface is.
func (d *Datapath) follow(a *attachment, peer uint32) error {
	if a.point.Peer == peer {
		return nil
	}
	p := a.point
	p.Peer = peer
	if err := d.register(Place{NetNS: p.Netns, Ifindex: p.Ifindex}, &p); err != nil {
		return err
	}
	a.point = p
	return nil
}

// register gives the interface a slot before any program can look for it, or
// changes what stands there.
func (d *Datapath) register(place Place, p *objects.FlowEbbPoint) error {
	known := d.points.has(place)
	slot, err := d.points.add(place)
	if err != nil {
		return err
	}
	if !known {
		if err := d.glanceAnew(slot); err != nil {
			d.points.retire(place)
			return err
		}
	}
	if err := d.objs.EbbPoints.Put(slot, p); err != nil {
		d.points.retire(place)
		return fmt.Errorf("register interface %d: %w", place.Ifindex, err)
	}
	return nil
}

func (d *Datapath) hook(a *attachment, ifindex int, dir Direction, prog *ebpf.Program) error {
	if d.mode == AttachTC {
		f, err := addTCFilter(ifindex, dir, prog)
		if err != nil {
			return err
		}
		a.filters = append(a.filters, f)
		return nil
	}
	l, err := attachTCX(ifindex, dir, prog)
	if err != nil {
		return err
	}
	a.links = append(a.links, l)
	return nil
}

func attachTCX(ifindex int, dir Direction, prog *ebpf.Program) (link.Link, error) {
	return link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: tcxType(dir), Anchor: link.Head()})
}

func tcxType(dir Direction) ebpf.AttachType {
	if dir == Egress {
		return ebpf.AttachTCXEgress
	}
	return ebpf.AttachTCXIngress
}

func (d *Datapath) program(dir Direction) *ebpf.Program {
	if dir == Egress {
		return d.objs.EbbEgress
	}
	return d.objs.EbbIngress
}

// Detach unhooks the interface. What it counted is part of the next drain, to the
// last packet, and nothing of it comes later. Detaching what is not attached, or is gone, is no error.
func (d *Datapath) Detach(place Place) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.detach(place)
}

func (d *Datapath) detach(place Place) error {
	return d.unhook(place, link.Link.Close)
}

// Rest ends the counting at the interface: what it counted is part of the next
// drain, as with Detach. It takes microseconds where Detach of a tcx link waits for a
// grace period (some 10 to 20 ms a direction, for one interface after the other), and
// leaves a program that does nothing on the interface until Close or the end of the
// process: it is for the end of an agent that watches many. Filters of tc, which go
// without waiting, are removed.
func (d *Datapath) Rest(place Place) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unhook(place, func(l link.Link) error {
		if err := l.Update(d.objs.EbbEmpty); err != nil {
			return l.Close() // its interface is gone
		}
		d.unsettled = true
		d.resting = append(d.resting, l)
		return nil
	})
}

// unhook lets go of an interface; end ends what a link of it counts.
func (d *Datapath) unhook(place Place, end func(link.Link) error) error {
	a := d.attached[place]
	if a == nil {
		return nil
	}
	delete(d.attached, place)
	d.points.retire(place)
	var errs []error
	for _, l := range a.links {
		errs = append(errs, end(l))
	}
	for _, f := range a.filters {
		d.unsettled = true
		errs = append(errs, f.remove())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("detach interface %d: %w", place.Ifindex, err)
	}
	return nil
}

// hooked reports whether what hooks an interface still does. A tcx link without
// its interface names none; a filter ends with its interface.
func (a *attachment) hooked(ifindex int) bool {
	for _, l := range a.links {
		info, err := l.Info()
		if err != nil {
			return false
		}
		if tcx := info.TCX(); tcx == nil || int(tcx.Ifindex) != ifindex {
			return false
		}
	}
	for _, f := range a.filters {
		if !f.present() {
			return false
		}
	}
	return true
}

// Mode returns the attach mechanism in use: tcx or tc.
func (d *Datapath) Mode() AttachMode { return d.mode }

// chooseMode settles what AttachAuto means here.
func (d *Datapath) chooseMode() error {
	d.mode = d.cfg.Attach
	if d.mode == AttachAuto {
		d.mode = AttachTCX
		if err := probeTCX(d.objs.EbbEmpty); err != nil {
			d.mode = AttachTC
			d.log.Info("tcx does not work here, using tc", "error", err)
		}
	}
	if d.mode == AttachTC {
		if err := removeStaleTCFilters(); err != nil {
			return fmt.Errorf("remove stale tc filters: %w", err)
		}
	}
	return nil
}

// loopback is the index of lo in every network namespace.
const loopback = 1

// probeTCX hooks a program that does nothing to the loopback interface for a moment.
func probeTCX(empty *ebpf.Program) error {
	l, err := attachTCX(loopback, Egress, empty)
	if err != nil {
		return err
	}
	return l.Close()
}

// linkOf says how frames begin on an interface of this type (ARPHRD_ of
// linux/if_arp.h, as netlink names it: 519 is raw IP, 823 GRE over IPv6).
func linkOf(encap string) uint32 {
	switch encap {
	case "ether", "loopback":
		return linkEthernet
	case "none", "void", "ppp", "slip", "cslip", "slip6", "cslip6", "ipip", "tunnel6", "sit", "gre", "unknown519", "unknown823":
		return linkIP
	}
	return linkUnknown
}
