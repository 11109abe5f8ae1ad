package owner

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/agent/internal/losstest"
)

// The roles that this test binary plays when it is run again.
const (
	roleVariable = "EBBWATCH_TEST_ROLE"
	toVariable   = "EBBWATCH_TEST_TO"
	userVariable = "EBBWATCH_TEST_USER"
	netVariable  = "EBBWATCH_TEST_NETNS" // a file
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role, os.Getenv(toVariable)); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play says on standard output which port it has, and ends with its standard
// input if it serves.
func play(role, to string) error {
	if uid, err := strconv.Atoi(os.Getenv(userVariable)); err == nil {
		if err := syscall.Setuid(uid); err != nil {
			return err
		}
	}
	if path := os.Getenv(netVariable); path != "" {
		runtime.LockOSThread() // sockets are made on this thread
		space, err := netns.GetFromPath(path)
		if err != nil {
			return err
		}
		if err := netns.Set(space); err != nil {
			return err
		}
	}
	switch role {
	case "udpsend": // waits for nothing
		c, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		fmt.Println(port(c.LocalAddr()))
		_, err = c.Write([]byte{1})
		return err
	case "udpsink":
		p, err := net.ListenPacket("udp", to)
		if err != nil {
			return err
		}
		fmt.Println(port(p.LocalAddr()))
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	case "tcp", "udp": // sends a byte, waits for one
		c, err := net.DialTimeout(role, to, 5*time.Second)
		if err != nil {
			return err
		}
		fmt.Println(port(c.LocalAddr()))
		if _, err := c.Write([]byte{1}); err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Read(make([]byte, 1))
		return errors.Join(err, c.Close())
	case "tcpserver":
		l, err := net.Listen("tcp", to)
		if err != nil {
			return err
		}
		return serve(l)
	case "inherited":
		l, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			return err
		}
		return serve(l)
	case "udpserver":
		p, err := net.ListenPacket("udp", to)
		if err != nil {
			return err
		}
		fmt.Println(port(p.LocalAddr()))
		go func() {
			for {
				if _, from, err := p.ReadFrom(make([]byte, 1)); err == nil {
					_, _ = p.WriteTo([]byte{2}, from)
				}
			}
		}()
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	}
	return errors.New("unknown role")
}

// serve answers each connection with a byte.
func serve(l net.Listener) error {
	fmt.Println(port(l.Addr()))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				_, _ = c.Write([]byte{2})
			}
			_ = c.Close()
		}
	}()
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func port(a net.Addr) uint16 {
	switch a := a.(type) {
	case *net.TCPAddr:
		return uint16(a.Port)
	case *net.UDPAddr:
		return uint16(a.Port)
	}
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Ino
}

// host is a network namespace with a loopback interface, on which a program
// notes the owner that each sent packet's socket has.
type host struct {
	*Watcher
	ports *ebpf.Map // by source and destination port as the socket has them
}

// newHost moves the test to the namespace.
func newHost(t testing.TB) *host {
	t.Helper()
	losstest.Namespace(t)
	w := Open(nil, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() { must(t, w.Close()) })
	for _, f := range w.Features() {
		losstest.Need(t, f.Err == nil, fmt.Sprintf("%s: %v", f.Name, f.Err))
	}
	return &host{Watcher: w, ports: notePorts(t, w.maps.Maps["ebb_sockets"])}
}

// notePorts reads the owner of a sent packet's socket as the datapath does.
func notePorts(t testing.TB, sockets *ebpf.Map) *ebpf.Map {
	t.Helper()
	ports, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 4096})
	must(t, err)
	t.Cleanup(func() { _ = ports.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R1, asm.R1, 168, asm.DWord), // __sk_buff.sk
		asm.JEq.Imm(asm.R1, 0, "out"),
		asm.FnSkFullsock.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R6, asm.R0, 44, asm.Word), // bpf_sock.src_port, host byte order
		asm.LSh.Imm(asm.R6, 16),
		asm.LoadMem(asm.R7, asm.R0, 48, asm.Half), // bpf_sock.dst_port, network byte order
		asm.HostTo(asm.BE, asm.R7, asm.Half),
		asm.Or.Reg(asm.R6, asm.R7),
		asm.StoreMem(asm.RFP, -4, asm.R6, asm.Word),
		asm.LoadMapPtr(asm.R1, sockets.FD()),
		asm.Mov.Reg(asm.R2, asm.R0),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkStorageGet.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R6, asm.R0, 0, asm.Word),
		asm.StoreMem(asm.RFP, -8, asm.R6, asm.Word),
		asm.LoadMapPtr(asm.R1, ports.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -8),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"),
		asm.Return(),
	}})
	must(t, err)
	t.Cleanup(func() { _ = prog.Close() })
	losstest.Attach(t, losstest.Loopback, prog, true)
	return ports
}

// ownerOf returns who sent from one port to the other, 0 as a destination where
// the socket is not connected.
func (h *host) ownerOf(t *testing.T, from, to uint16) ebbwatch.Owner {
	t.Helper()
	var pid uint32
	key := uint32(from)<<16 | uint32(to)
	if err := h.ports.Lookup(&key, &pid); err != nil {
		return ebbwatch.Owner{}
	}
	o, ok := h.Owner(pid)
	if !ok {
		t.Errorf("process %d of port %d is unknown", pid, from)
	}
	return o
}

// actor is a process in a role, under a name of its own.
type actor struct {
	cmd  *exec.Cmd
	port uint16
	end  io.Closer
}

func start(t testing.TB, name, role, to string, change func(*exec.Cmd)) *actor {
	t.Helper()
	binary, err := os.Executable()
	must(t, err)
	path := filepath.Join(t.TempDir(), name)
	must(t, os.Symlink(binary, path))
	cmd := exec.Command(path)
	cmd.Env = []string{"GORACE=" + os.Getenv("GORACE"), roleVariable + "=" + role, toVariable + "=" + to}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if change != nil {
		change(cmd)
	}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	a := &actor{cmd: cmd, end: in}
	if _, err := fmt.Fscan(out, &a.port); err != nil {
		t.Errorf("%s said nothing: %v", name, err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	return a
}

func (a *actor) wait(t testing.TB) {
	t.Helper()
	_ = a.end.Close()
	if err := a.cmd.Wait(); err != nil {
		t.Errorf("process %d: %v", a.cmd.Process.Pid, err)
	}
}

func (a *actor) pid() uint32 { return uint32(a.cmd.Process.Pid) }
