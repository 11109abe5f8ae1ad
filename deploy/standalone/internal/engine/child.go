package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// childCommand is the name of the hidden command that becomes the engine.
const childCommand = "engine-child"

// listenQuery opens the ports and then never ends, by a query that needs no
// access to files or tables. Ending that query ends the engine in good order.
const listenQuery = "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; " +
	"SELECT sleepEachRow(0.2) FROM system.numbers SETTINGS max_block_size=1, function_sleep_max_microseconds_per_block=0 FORMAT Null"

// confined, as the first argument, marks the second stage of the child.
const confined = "confined"

// ChildCommand returns the hidden command that becomes the engine. The library
// owns signals and may abort, so it gets a process of its own: the same binary,
// run again, twice. The first stage confines itself and executes the second, all
// of whose threads inherit that; the second loads the library.
func ChildCommand() *cobra.Command {
	return &cobra.Command{
		Use:    childCommand + " [confined COMM PARENT] LIBRARY CONFIG DATA LOGS ARGUMENT...",
		Hidden: true, Args: cobra.MinimumNArgs(5), DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if args[0] != confined {
				return confineAndExecute(args)
			}
			comm, errComm := inherited(args[1], "comm")
			parent, errParent := inherited(args[2], "parent")
			if err := errors.Join(errComm, errParent); err != nil {
				return fmt.Errorf("start engine: %w", err)
			}
			go endWithParent(parent)
			if err := nameProcess(comm); err != nil {
				return err
			}
			return runLibrary(args[3], args[7:])
		},
	}
}

// confineAndExecute runs the second stage, confined if the kernel can.
func confineAndExecute(args []string) error {
	const self = "/proc/self/exe"
	// What the process is called can be written only by itself, and once it is
	// confined only to what is open already.
	comm, err := unix.Open("/proc/self/comm", unix.O_WRONLY, 0) // stays open across the exec
	if err != nil {
		return fmt.Errorf("start engine: name the process: %w", err)
	}
	parent, err := unix.FcntlInt(0, unix.F_DUPFD, 3) // as above
	if err != nil {
		return fmt.Errorf("start engine: keep standard input: %w", err)
	}
	if err := readTerminal(); err == nil { // else the parent says so
		args = append(args, interactive()...)
	}
	library, config, data, logs := args[0], args[1], args[2], args[3]
	switch err := confine([]string{self, library, config, configFolder(config)}, []string{data, logs}); {
	case errors.Is(err, errCannotConfine):
		// The parent says so where a person sees it.
	case err != nil:
		return err
	}
	stage := append([]string{os.Args[0], childCommand, confined, strconv.Itoa(comm), strconv.Itoa(parent)}, args...)
	return fmt.Errorf("start engine: %w", unix.Exec(self, stage, os.Environ()))
}

// processName is what ps and owners of sockets show, in place of "exe", which is
// what the kernel makes of a program that executes itself.
const processName = "clickhouse"

// inherited returns the file that the first stage left open as the descriptor
// that fd names.
func inherited(fd, name string) (*os.File, error) {
	number, err := strconv.Atoi(fd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	file := os.NewFile(uintptr(number), name)
	if file == nil {
		return nil, fmt.Errorf("%s: %d is no open file", name, number)
	}
	return file, nil
}

// nameProcess names the process, by its file comm, which it closes, and the
// calling thread, whose name those inherit that the engine starts.
func nameProcess(comm *os.File) error {
	defer comm.Close()
	if _, err := comm.WriteString(processName); err != nil {
		return fmt.Errorf("name the engine's process: %w", err)
	}
	runtime.LockOSThread() // it becomes the engine's
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(unsafe.StringData(processName+"\x00"))), 0, 0, 0))
}

// endWithParent ends the process when the pipe from the parent is closed, which
// happens when the parent is gone. It backs PR_SET_PDEATHSIG up.
func endWithParent(parent io.Reader) {
	_, _ = io.Copy(io.Discard, parent)
	os.Exit(1)
}

// runLibrary calls the engine's main function and returns when it ends.
func runLibrary(library string, args []string) error {
	handle, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load engine: %w", err)
	}
	symbol, err := purego.Dlsym(handle, "chdb_query_cmdline")
	if err != nil {
		return fmt.Errorf("load engine: %w", err)
	}
	var query func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	purego.RegisterFunc(&query, symbol)

	var pinner runtime.Pinner
	defer pinner.Unpin()
	argv := make([]*byte, 0, len(args)+2)
	for _, arg := range append([]string{"clickhouse"}, args...) {
		text := append([]byte(arg), 0)
		pinner.Pin(&text[0])
		argv = append(argv, &text[0])
	}
	argv = append(argv, nil)
	pinner.Pin(&argv[0])
	query(int32(len(argv)-1), unsafe.Pointer(&argv[0]))
	return errors.New("engine ended")
}
