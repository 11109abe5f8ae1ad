package flowbpf

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tcFilterPrefix begins the name of our tc filters. A filter outlives its
// process; the name is how the next one finds it.
const tcFilterPrefix = "ebbwatch_"

// tcFilter is a filter of ours, and whether the clsact qdisc is ours too.
type tcFilter struct {
	ifindex    int
	dir        Direction
	madeClsact bool
}

func (d Direction) tcParent() uint32 {
	if d == Egress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

// addTCFilter hooks prog by a clsact filter of the first priority: a filter that
// decides ends the chain, and what comes after it sees nothing. Of several BPF
// filters of one priority the last that came is first. TC_ACT_UNSPEC then lets
// the others decide. Where the first priority is taken by another kind of filter,
// the kernel chooses one.
func addTCFilter(ifindex int, dir Direction, prog *ebpf.Program) (*tcFilter, error) {
	if err := removeTCFilters(ifindex, dir); err != nil {
		return nil, err
	}
	f := &tcFilter{ifindex: ifindex, dir: dir}
	err := netlink.QdiscAdd(clsact(ifindex))
	switch {
	case err == nil:
		f.madeClsact = true
	case !errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("add clsact qdisc: %w", err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: ifindex, Parent: dir.tcParent(), Priority: 1, Protocol: unix.ETH_P_ALL},
		Fd:           prog.FD(),
		Name:         tcFilterPrefix + dir.String(),
		DirectAction: true,
	}
	if err = netlink.FilterAdd(filter); errors.Is(err, unix.EINVAL) {
		filter.Priority = 0
		err = netlink.FilterAdd(filter)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("add tc filter: %w", err), f.remove())
	}
	return f, nil
}

// present reports whether the filter is still there.
func (f *tcFilter) present() bool {
	filters, err := netlink.FilterList(linkIndex(f.ifindex), f.dir.tcParent())
	return err == nil && slices.ContainsFunc(filters, func(other netlink.Filter) bool {
		b, ok := other.(*netlink.BpfFilter)
		return ok && b.Name == tcFilterPrefix+f.dir.String()
	})
}

// remove deletes the filter, and the qdisc if it was made for it and nobody
// else uses it by now.
func (f *tcFilter) remove() error {
	if err := removeTCFilters(f.ifindex, f.dir); err != nil {
		return err
	}
	if !f.madeClsact {
		return nil
	}
	for _, dir := range []Direction{Ingress, Egress} {
		filters, err := netlink.FilterList(linkIndex(f.ifindex), dir.tcParent())
		if err != nil || len(filters) > 0 {
			return ignoreGone(err)
		}
	}
	return ignoreGone(netlink.QdiscDel(clsact(f.ifindex)))
}

func removeTCFilters(ifindex int, dir Direction) error {
	filters, err := netlink.FilterList(linkIndex(ifindex), dir.tcParent())
	if err != nil {
		return ignoreGone(err)
	}
	for _, f := range filters {
		b, ok := f.(*netlink.BpfFilter)
		if !ok || b.Name != tcFilterPrefix+dir.String() {
			continue
		}
		if err := ignoreGone(netlink.FilterDel(b)); err != nil {
			return fmt.Errorf("delete tc filter: %w", err)
		}
	}
	return nil
}

// removeStaleTCFilters removes every filter of ours in this network namespace.
func removeStaleTCFilters() error {
	links, err := Links()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		for _, dir := range []Direction{Ingress, Egress} {
			errs = append(errs, removeTCFilters(l.Attrs().Index, dir))
		}
	}
	return errors.Join(errs...)
}

func clsact(ifindex int) netlink.Qdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: ifindex,
			Handle:    netlink.MakeHandle(0xffff, 0),
			Parent:    netlink.HANDLE_CLSACT,
		},
		QdiscType: "clsact",
	}
}

// linkIndex is the link of that index without asking the kernel.
func linkIndex(ifindex int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
}

// ignoreGone drops the errors that say that interface, qdisc or filter is not
// there: there is nothing left to remove then.
func ignoreGone(err error) error {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
