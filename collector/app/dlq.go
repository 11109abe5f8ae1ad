package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch"
	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

func dlq(local []Local) *cobra.Command {
	cmd := &cobra.Command{
		Use: "dlq", Short: "Look at the batches that were refused (dead letters), replay or drop them",
		Long: "A batch that the collector refuses is kept, byte for byte, as a dead letter. Letters are named by\n" +
			"their number, or chosen by --agent, --reason and --since.\n\n" +
			"  dlq list                      what was refused, and why\n" +
			"  dlq show 17                   one of them: what it is, and what to do\n" +
			"  dlq replay --reason future    send them again, once the cause is gone\n" +
			"  dlq drop --agent web-1        remove what nobody needs\n\n" +
			"The reasons, and what to do:\n" + advice(),
	}
	for _, tool := range []letterTool{dlqList(), dlqShow(), dlqReplay(), dlqExport(), dlqDrop()} {
		cmd.AddCommand(tool.command(local))
	}
	return cmd
}

// advice has a line for each reason.
func advice() string {
	var lines []string
	for _, r := range batch.Reasons() {
		lines = append(lines, fmt.Sprintf("  %-13s %s", r, r.Advice()))
	}
	return strings.Join(lines, "\n")
}

// letterTool is a command over letters that its arguments and flags choose.
type letterTool struct {
	use, short, long string
	aliases          []string
	mustChoose       bool // it changes something: no choice is an error
	limit            int  // the default of --limit
	flags            func(*cobra.Command)
	run              func(ctx context.Context, t *letters) error
}

// letters is what a letterTool works on.
type letters struct {
	*consume.Letters
	cfg       Config
	filter    consume.Filter
	limit     int
	json      bool
	out, errs io.Writer
}

func (t letterTool) command(local []Local) *cobra.Command {
	var l letters
	var since string
	var all bool
	var adapt []func(*Config) error // of local
	var cmd *cobra.Command
	cmd = cli.Service[Config]{
		Use: t.use, Short: t.short, Long: t.long, Default: DefaultConfig,
		Run: func(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
			l.cfg, l.out, l.errs = cfg, cmd.OutOrStdout(), cmd.ErrOrStderr()
			chosen := len(l.filter.IDs) > 0 || l.filter.Agent != "" || l.filter.Reason != "" || since != ""
			switch {
			case l.limit < 1:
				return errors.New("--limit: must be at least 1")
			case all && chosen:
				return errors.New("--all: goes without numbers, --agent, --reason and --since")
			case t.mustChoose && !all && !chosen:
				return errors.New("name letters by their numbers, choose them by --agent, --reason or --since, or say --all")
			}
			if err := l.check(since); err != nil {
				return err
			}
			for _, change := range adapt {
				if err := change(&cfg); err != nil {
					return err
				}
			}
			js, closeConn, err := connect(cfg, log)
			if err != nil {
				return fmt.Errorf("%w\nnats.url (EBBWATCH_NATS_URL), nats.user and nats.password say where NATS is; with `ebbwatch up`, ask by `ebbwatch collector dlq` with its --data (and --nats-port)", err)
			}
			defer closeConn()
			attempt, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			if l.Letters, err = consume.OpenLetters(attempt, js); err != nil {
				return err
			}
			return t.run(ctx, &l)
		},
	}.Command()
	quiet(cmd)
	for _, add := range local {
		adapt = append(adapt, add(cmd))
	}
	cmd.Aliases = t.aliases
	cmd.Args = func(_ *cobra.Command, args []string) error {
		for _, arg := range args {
			id, err := strconv.ParseUint(arg, 10, 64)
			if err != nil || id == 0 {
				return fmt.Errorf("%q is no number of a letter, as `dlq list` shows them", arg)
			}
			l.filter.IDs = append(l.filter.IDs, id)
		}
		return nil
	}
	flags := cmd.Flags()
	flags.StringVar(&l.filter.Agent, "agent", "", "letters whose subject names this `agent`; invalid: those that name none")
	flags.StringVar(&l.filter.Reason, "reason", "", "letters of this `reason`: "+reasons())
	flags.StringVar(&since, "since", "", "letters refused since this `time`: a duration before now (90m, 24h) or RFC 3339")
	flags.IntVar(&l.limit, "limit", t.limit, "at most the newest `n`")
	flags.BoolVar(&l.json, "json", false, "print one JSON object a line")
	flags.BoolVar(&all, "all", false, "all letters, within --limit")
	if t.flags != nil {
		t.flags(cmd)
	}
	return cmd
}

func reasons() string {
	var words []string
	for _, r := range batch.Reasons() {
		words = append(words, string(r))
	}
	return strings.Join(words, ", ")
}

// check holds the filters against what they can be.
func (l *letters) check(since string) error {
	if l.filter.Agent != "" {
		if err := ebbwatch.ValidateAgent(l.filter.Agent); err != nil {
			return fmt.Errorf("--agent: %w", err)
		}
	}
	if l.filter.Reason != "" && !strings.Contains(", "+reasons()+",", ", "+l.filter.Reason+",") {
		return fmt.Errorf("--reason: %q is none of %s", l.filter.Reason, reasons())
	}
	if since == "" {
		return nil
	}
	if ago, err := time.ParseDuration(since); err == nil && ago >= 0 {
		l.filter.Since = time.Now().Add(-ago)
		return nil
	}
	at, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return fmt.Errorf("--since: %q is neither a duration like 90m nor a time like 2026-01-31T08:00:00Z", since)
	}
	l.filter.Since = at
	return nil
}

// choose returns the newest letters that the filter has, without data, oldest
// first, and how many more there are. A number that is not there is an error.
func (l *letters) choose(ctx context.Context) (chosen []*consume.Letter, more int, err error) {
	missing := make(map[uint64]bool)
	for _, id := range l.filter.IDs {
		missing[id] = true
	}
	for letter, err := range l.All(ctx, l.filter) {
		if err != nil {
			return nil, 0, err
		}
		delete(missing, letter.ID)
		chosen = append(chosen, letter)
		if len(chosen) >= 2*l.limit { // bounded, whatever the stream holds
			more += len(chosen) - l.limit
			chosen = append(chosen[:0], chosen[len(chosen)-l.limit:]...)
		}
	}
	for id := range missing {
		return nil, 0, fmt.Errorf("%w: %d (see `dlq list`; a letter goes when its batch is stored or it gave way to others)", consume.ErrNoLetter, id)
	}
	if over := len(chosen) - l.limit; over > 0 {
		more += over
		chosen = chosen[over:]
	}
	if len(chosen) == 0 {
		if all, _, _ := l.Usage(); all > 0 {
			fmt.Fprintf(l.errs, "no letter is chosen, of %d that there are\n", all)
		} else {
			fmt.Fprintln(l.errs, "there are no dead letters")
		}
	}
	return chosen, more, nil
}

// head is a letter without its data, for people and programs.
type head struct {
	ID        uint64    `json:"id"`
	Refused   time.Time `json:"refused"`
	Stored    time.Time `json:"stored"`
	Agent     string    `json:"agent"`
	Subject   string    `json:"subject"`
	MessageID string    `json:"message_id"`
	Bytes     int       `json:"bytes"`
	Truncated int       `json:"truncated_from_bytes,omitempty"`
	Sequence  uint64    `json:"sequence"`
	Reason    string    `json:"reason"`
}

func headOf(l *consume.Letter) head {
	return head{l.ID, l.Time.UTC(), l.Stored, l.Agent(), l.Subject, l.MessageID, l.Size, l.Truncated, l.Origin, l.Reason}
}

func dlqList() letterTool {
	return letterTool{
		use: "list [NUMBER…]", short: "List refused batches with the reason of each, oldest first", limit: 100,
		run: func(ctx context.Context, l *letters) error {
			chosen, more, err := l.choose(ctx)
			if err != nil {
				return err
			}
			if l.json {
				return eachLine(l.out, chosen, func(letter *consume.Letter) (any, error) { return headOf(letter), nil })
			}
			table := tabwriter.NewWriter(l.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "ID\tREFUSED\tSUBJECT\tBYTES\tREASON")
			for _, letter := range chosen {
				fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%s\n", letter.ID, letter.Time.UTC().Format(time.RFC3339), letter.Subject, letter.Size, letter.Reason)
			}
			if err := table.Flush(); err != nil {
				return fmt.Errorf("list dead letters: %w", err)
			}
			if more > 0 {
				fmt.Fprintf(l.errs, "%d older ones are not shown: see --limit\n", more)
			}
			letters, bytes, limit := l.Usage()
			fmt.Fprintf(l.errs, "%d letters take %.1f of %.1f MiB", letters, float64(bytes)/(1<<20), float64(limit)/(1<<20))
			if bytes > limit/10*9 {
				fmt.Fprint(l.errs, ": when they are full, the oldest of the largest sender give way to new ones. Replay or drop some")
			}
			fmt.Fprintln(l.errs)
			return nil
		},
	}
}

// eachLine prints what value makes of each letter as one line of JSON.
func eachLine(w io.Writer, chosen []*consume.Letter, value func(*consume.Letter) (any, error)) error {
	encoder := json.NewEncoder(w)
	for _, letter := range chosen {
		v, err := value(letter)
		if err != nil {
			return err
		}
		if err := encoder.Encode(v); err != nil {
			return fmt.Errorf("print dead letters: %w", err)
		}
	}
	return nil
}

func dlqExport() letterTool {
	return letterTool{
		use: "export [NUMBER…]", short: "Print letters with their bytes (base64), one JSON object a line", limit: 1000,
		long: "Print letters with their bytes, one JSON object a line, as `list --json` does, with the bytes as received\nin base64 under \"data\".",
		run: func(ctx context.Context, l *letters) error {
			chosen, more, err := l.choose(ctx)
			if err != nil {
				return err
			}
			if more > 0 {
				fmt.Fprintf(l.errs, "%d older ones are left out: see --limit\n", more)
			}
			return eachLine(l.out, chosen, func(letter *consume.Letter) (any, error) {
				full, err := l.Get(ctx, letter.ID)
				if err != nil {
					return nil, err
				}
				return struct {
					head
					Data []byte `json:"data"`
				}{headOf(full), full.Data}, nil
			})
		},
	}
}

func dlqDrop() letterTool {
	return letterTool{
		use: "drop [NUMBER…]", short: "Remove letters for good", mustChoose: true, limit: 1_000_000,
		run: func(ctx context.Context, l *letters) error {
			chosen, _, err := l.choose(ctx)
			if err != nil {
				return err
			}
			p := progress{w: l.errs, what: "dropped", of: len(chosen)}
			for _, letter := range chosen {
				if err := l.Drop(ctx, letter.ID); err != nil {
					return fmt.Errorf("%w (%d of %d are dropped)", err, p.done, p.of)
				}
				p.step()
			}
			if l.json {
				return eachLine(l.out, chosen, func(letter *consume.Letter) (any, error) {
					return replayResult{ID: letter.ID, Outcome: "dropped"}, nil
				})
			}
			fmt.Fprintf(l.out, "%d letters dropped\n", p.done)
			return nil
		},
	}
}

// progress tells every second how far a tool is.
type progress struct {
	w        io.Writer
	what     string
	done, of int
	told     time.Time
}

func (p *progress) step() {
	if p.done == 0 {
		p.told = time.Now()
	}
	p.done++
	if time.Since(p.told) > time.Second {
		p.told = time.Now()
		fmt.Fprintf(p.w, "%s %d of %d\n", p.what, p.done, p.of)
	}
}
