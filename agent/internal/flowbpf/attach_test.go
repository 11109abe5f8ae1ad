package flowbpf

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

func modes(t *testing.T, test func(t *testing.T, mode AttachMode)) {
	for _, mode := range []AttachMode{AttachTCX, AttachTC} {
		t.Run(string(mode), func(t *testing.T) {
			if mode == AttachTCX {
				needTCX(t)
			}
			test(t, mode)
		})
	}
}

// needTCX skips on kernels before 6.6, where tc does its work.
func needTCX(t *testing.T) {
	t.Helper()
	needRoot(t)
	if !haveTCX() {
		if os.Getenv("CI") == "true" {
			t.Fatal("this kernel has no tcx")
		}
		t.Skip("this kernel has no tcx")
	}
}

func haveTCX() bool { return !errors.Is(probeAttachTCX(), ebpf.ErrNotSupported) }

func withMode(mode AttachMode) func(*Config) { return func(c *Config) { c.Attach = mode } }

func TestAttachRefusesAndForgets(t *testing.T) {
	modes(t, func(t *testing.T, mode AttachMode) {
		l := newLab(t)
		d := load(t, func(c *Config) { c.Attach, c.MaxInterfaces = mode, 1 })
		must(t, d.Attach(here(l.index()), 0))
		if err := d.Attach(here(l.index()), 0); !errors.Is(err, ErrAttached) {
			t.Errorf("second attach: %v, want %v", err, ErrAttached)
		}
		if err := d.Attach(here(loopback), 0); !errors.Is(err, ErrTooMany) {
			t.Errorf("attach beyond the limit: %v, want %v", err, ErrTooMany)
		}
		l.up(t)
		c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: farIP, Port: 7})
		must(t, err)
		_, err = c.Write(make([]byte, 10))
		must(t, err)
		must(t, c.Close())
		must(t, netlink.LinkDel(l.link))
		must(t, d.Detach(here(l.index())))
		must(t, d.Detach(here(l.index())))
		_, totals := drain(t, d)
		if pointOf(totals, l.index(), Egress).Seen.Packets == 0 {
			t.Errorf("what the interface counted before it went is lost: %+v", totals)
		}
		if _, totals = drain(t, d); len(totals) != 0 {
			t.Errorf("totals after the interface is forgotten: %+v", totals)
		}
		if err := d.Attach(here(l.index()), 0); err == nil {
			t.Error("attached an interface that is gone")
		}
		must(t, d.Attach(here(loopback), 0))
	})
}

// We see every packet even where an older program ends the chain, and a program
// that comes after us sees every packet too.
func TestCoexistsWithOtherPrograms(t *testing.T) {
	needTCX(t)
	l := newLab(t)
	d := load(t, withMode(AttachTCX))
	older, p := countingProgram(t)
	a, err := attachTCX(l.index(), Egress, p)
	must(t, err)
	defer a.Close()
	must(t, d.Attach(here(l.index()), 0))
	younger, p := countingProgram(t)
	b, err := link.AttachTCX(link.TCXOptions{Interface: l.index(), Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Tail()})
	must(t, err)
	defer b.Close()
	l.up(t)
	frame := ether(typeIP4, ip4{proto: protoUDP}.with(udp(1, 2, 3)))
	for range 5 {
		sendRaw(t, "ebbnear", frame)
		l.inFar(t, func() { sendRaw(t, "ebbfar", frame) })
	}
	_, totals := drain(t, d)
	for _, c := range []struct {
		name  string
		dir   Direction
		other *ebpf.Map
	}{{"older", Egress, older}, {"younger", Ingress, younger}} {
		var n uint64
		must(t, c.other.Lookup(uint32(0), &n))
		if got := pointOf(totals, l.index(), c.dir).Seen.Packets; got != n || n < 5 {
			t.Errorf("we saw %d packets, the %s program %d", got, c.name, n)
		}
	}
}

// countingProgram counts packets and ends the chain.
func countingProgram(t *testing.T) (*ebpf.Map, *ebpf.Program) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(t, err)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMapValue(asm.R1, m.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, 0), // TCX_PASS
		asm.Return(),
	}})
	must(t, err)
	t.Cleanup(func() { _ = p.Close(); _ = m.Close() })
	return m, p
}

// killedEnv makes the test binary attach, say so, and wait to be killed.
const killedEnv = "EBBWATCH_TEST_ATTACH_AND_WAIT"

func TestNothingStaysAttachedAfterAKill(t *testing.T) {
	if mode := os.Getenv(killedEnv); mode != "" {
		d := load(t, withMode(AttachMode(mode)))
		must(t, d.Attach(here(loopback), 0))
		fmt.Println("attached")
		time.Sleep(time.Minute)
		return
	}
	modes(t, func(t *testing.T, mode AttachMode) {
		newLab(t) // the child inherits this thread's namespace
		child := exec.Command(os.Args[0], "-test.run=^TestNothingStaysAttachedAfterAKill$")
		child.Env = append(os.Environ(), killedEnv+"="+string(mode))
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || strings.TrimSpace(line) != "attached" {
			t.Fatalf("child said %q: %v", line, err)
		}
		if n := hooked(t, mode); n != 1 {
			t.Fatalf("%d programs attached by the child, want 1", n)
		}
		must(t, child.Process.Kill())
		_ = child.Wait()
		if mode == AttachTCX {
			if n := hooked(t, mode); n != 0 {
				t.Errorf("%d programs attached after the kill, want 0", n)
			}
			return
		}
		d := load(t, withMode(mode)) // a filter stays; the next start removes it
		if n := hooked(t, mode); n != 0 {
			t.Errorf("%d filters after the next start, want 0", n)
		}
		must(t, d.Attach(here(loopback), 0))
		if n := hooked(t, mode); n != 1 {
			t.Errorf("%d filters after attaching anew, want 1", n)
		}
		must(t, d.Close())
		if n := hooked(t, mode); n != 0 {
			t.Errorf("%d filters after close, want 0", n)
		}
	})
}

// hooked counts programs of ours on the loopback interface.
func hooked(t *testing.T, mode AttachMode) int { return hooksOf(t, mode, loopback) }

func TestProbesPassOnThisKernel(t *testing.T) {
	newLab(t)
	for _, f := range Probe(true) {
		if f.Name == "" || f.Need == "" {
			t.Errorf("feature %+v lacks its name or use", f)
		}
		if f.Err != nil && f.Required {
			t.Errorf("%s (%s): %v", f.Name, f.Need, f.Err)
		}
	}
	for _, mode := range []AttachMode{AttachTCX, AttachTC} {
		if mode == AttachTCX && !haveTCX() {
			continue
		}
		if n := hooked(t, mode); n != 0 {
			t.Errorf("a probe left %d programs behind", n)
		}
	}
}
