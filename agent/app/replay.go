package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ebbwatch/ebbwatch/agent/internal/annotate"
	"github.com/ebbwatch/ebbwatch/agent/internal/conn"
	"github.com/ebbwatch/ebbwatch/agent/internal/doctor"
	"github.com/ebbwatch/ebbwatch/agent/internal/flowbpf"
	"github.com/ebbwatch/ebbwatch/agent/internal/replay"
	"github.com/ebbwatch/ebbwatch/internal/ops"
)

// replayOutput takes the records and the totals of a replay.
type replayOutput interface {
	replay.Sink
	Totals(*replay.Totals, error) error
}

// replayOptions are the flags of the replay command.
type replayOptions struct {
	interval  time.Duration
	maxFlows  uint32
	asJSON    bool
	keepGoing bool
}

func replayCommand() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay FILE...",
		Short: "Make flow records of packet captures, by the programs that watch interfaces",
		Long: `Replay reads pcap and pcapng files (also compressed by gzip; - is the standard
input), pushes each packet through the BPF programs of the agent with the
packet's own time in place of the clock, and prints the records that the agent
would make. Several files are one stream, in the order given. It attaches to no
interface and sends nothing. It needs ` + doctor.Needed + `, or root.

With --json each line is a record under the column names of the SQL table flows;
the last line is {"totals":{…}}: seen = recorded + overflowed + refused, packets
and bytes. docs/replay.md describes both. The exit status is 0 only if every file
was read to its end and the totals add up.`,
		Args: func(_ *cobra.Command, files []string) error {
			if len(files) == 0 {
				return errors.New("name one or more captures, - for standard input")
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.interval, "interval", DefaultConfig().DrainInterval, "capture time that one record covers at most")
	flags.Uint32Var(&o.maxFlows, "max-flows", flowbpf.DefaultConfig().MaxFlows, "entries of a flow map, at 784 bytes of kernel memory each; fuller intervals make more records; 1 to "+strconv.Itoa(flowbpf.MaxFlowsLimit))
	flags.BoolVar(&o.asJSON, "json", false, "print JSON lines instead of a table")
	flags.BoolVar(&o.keepGoing, "keep-going", false, "go on with the next packet after an unknown link type, and with the next file after a broken one")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		cmd.SilenceUsage = true
		if o.maxFlows < 1 || o.maxFlows > flowbpf.MaxFlowsLimit {
			return fmt.Errorf("--max-flows is %d, must be 1 to %d", o.maxFlows, flowbpf.MaxFlowsLimit)
		}
		out := replayOutput(replay.NewText(cmd.OutOrStdout()))
		if o.asJSON {
			out = replay.NewJSON(cmd.OutOrStdout())
		}
		return o.run(cmd.Context(), files, out, cmd.InOrStdin(), cmd.ErrOrStderr())
	}
	return cmd
}

// run replays the files, and prints the totals whatever happens on the way.
func (o *replayOptions) run(ctx context.Context, files []string, out replayOutput, stdin io.Reader, stderr io.Writer) (err error) {
	if err := doctor.Privileges(); err != nil {
		return err
	}
	silent := slog.New(slog.DiscardHandler)
	datapath, err := flowbpf.Load(replay.DatapathConfig(o.maxFlows), silent)
	if err != nil {
		return fmt.Errorf("%w (the doctor command tells what this kernel lacks)", err)
	}
	defer func() { err = errors.Join(err, datapath.Close()) }()
	r, err := replay.New(replay.Config{Interval: o.interval, MaxFlows: int(o.maxFlows), KeepGoing: o.keepGoing}, replay.Parts{
		Conversations: conn.DefaultConfig(), Datapath: datapath, Annotator: annotate.New(annotate.Sources{Hints: datapath}, ops.NewRegistry(), silent), Sink: out,
	})
	if err != nil {
		return err
	}
	defer replay.Pin()()
	var problems []error
	for _, file := range files {
		problem := o.file(ctx, r, file, stdin, stderr)
		if problem == nil {
			continue
		}
		problems = append(problems, fmt.Errorf("%s: %w", file, problem))
		if !o.keepGoing || ctx.Err() != nil {
			break
		}
	}
	totals, err := r.Finish()
	if err != nil {
		problems = append(problems, err)
	}
	problem := errors.Join(problems...)
	return errors.Join(problem, out.Totals(totals, problem))
}

// file replays one capture.
func (o *replayOptions) file(ctx context.Context, r *replay.Replay, name string, stdin io.Reader, stderr io.Writer) error {
	if name == "-" {
		return r.File(ctx, "stdin", stdin, nil)
	}
	f, err := os.Open(name)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			return path.Err // the caller names the file
		}
		return err
	}
	defer f.Close()
	show, remove := progress(f, stderr)
	defer remove()
	return r.File(ctx, filepath.Base(name), f, show)
}

// progress returns a function that tells people at a terminal how far a file is
// read, and one that removes the line.
func progress(f *os.File, stderr io.Writer) (show func(int64), remove func()) {
	terminal, ok := stderr.(*os.File)
	if !ok {
		return nil, func() {}
	}
	if _, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS); err != nil {
		return nil, func() {}
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil, func() {}
	}
	began, shown := time.Now(), time.Now()
	return func(int64) {
			if time.Since(shown) < time.Second/2 {
				return
			}
			shown = time.Now()
			at, err := f.Seek(0, io.SeekCurrent) // of the file as it is, perhaps compressed
			if err == nil {
				fmt.Fprintf(terminal, "\r\033[K%s: %d %%, %s", filepath.Base(f.Name()), at*100/info.Size(), time.Since(began).Round(time.Second))
			}
		}, func() {
			if shown.Sub(began) > time.Second/4 {
				fmt.Fprint(terminal, "\r\033[K")
			}
		}
}
