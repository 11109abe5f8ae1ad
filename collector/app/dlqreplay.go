package app

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbwatch/ebbwatch/collector/internal/batch"
	"github.com/ebbwatch/ebbwatch/collector/internal/consume"
	"github.com/ebbwatch/ebbwatch/internal/cli"
)

// replayResult is what became of one letter.
type replayResult struct {
	ID      uint64          `json:"id"`
	Outcome consume.Outcome `json:"outcome"`
	Detail  string          `json:"detail,omitempty"`
}

func dlqReplay() letterTool {
	var wait time.Duration
	return letterTool{
		use: "replay [NUMBER…]", short: "Send refused batches through the collector once more", mustChoose: true, limit: 1000,
		long: "Send refused batches to the collector once more, each on the subject on which it came in: after an update\n" +
			"of the collector, say, or when a time in the future has passed. A letter goes when its batch is stored. One\n" +
			"that is refused again stays, and is not doubled. A batch that is stored already is not stored twice, so that a\n" +
			"replay that broke off may be done again.\n\n" +
			"The exit status is 0 if every chosen letter is stored, and 3 if some are not.",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "how `long` to wait for the collector's judgement of the last letter; 0 to send only")
		},
		run: func(ctx context.Context, l *letters) error {
			if wait < 0 {
				return errors.New("--wait: must not be negative")
			}
			chosen, more, err := l.choose(ctx)
			if err != nil {
				return err
			}
			if more > 0 {
				fmt.Fprintf(l.errs, "%d older ones are left for another time: see --limit\n", more)
			}
			results, sendErr := l.replay(ctx, chosen, wait)
			if err := l.printReplay(results, wait); err != nil {
				return err
			}
			if sendErr != nil {
				return sendErr
			}
			for _, r := range results {
				if r.Outcome != consume.Stored && wait > 0 {
					return &cli.ExitError{Code: 3}
				}
			}
			return nil
		},
	}
}

// replay sends the letters, and then waits for what becomes of each. What was
// sent before an error has a result too.
func (l *letters) replay(ctx context.Context, chosen []*consume.Letter, wait time.Duration) (results []replayResult, err error) {
	var sent []*consume.Replayed
	p := progress{w: l.errs, what: "sent", of: len(chosen)}
	for _, letter := range chosen {
		full, getErr := l.Get(ctx, letter.ID)
		if errors.Is(getErr, consume.ErrNoLetter) { // stored meanwhile, by an earlier replay
			results = append(results, replayResult{letter.ID, consume.Stored, "it has gone meanwhile"})
			continue
		}
		if err = getErr; err != nil {
			break
		}
		r, sendErr := l.Replay(ctx, full)
		if errors.Is(sendErr, consume.ErrIncomplete) {
			results = append(results, replayResult{letter.ID, "skipped", sendErr.Error()})
			continue
		}
		if err = sendErr; err != nil {
			break
		}
		sent = append(sent, r)
		p.step()
	}
	wait = max(wait, time.Millisecond)
	deadline, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	p = progress{w: l.errs, what: "judged", of: len(sent)}
	for _, r := range sent {
		outcome, outcomeErr := l.Outcome(deadline, r)
		result := replayResult{ID: r.ID, Outcome: outcome}
		if outcomeErr != nil {
			result.Detail = outcomeErr.Error()
		}
		results = append(results, result)
		if outcome != consume.Waiting {
			p.step()
		}
	}
	return results, err
}

func (l *letters) printReplay(results []replayResult, wait time.Duration) error {
	count := make(map[consume.Outcome]int)
	var again []string // refused
	encoder := json.NewEncoder(l.out)
	for _, r := range results {
		count[r.Outcome]++
		if r.Outcome == consume.RefusedAgain {
			again = append(again, strconv.FormatUint(r.ID, 10))
		}
		if !l.json {
			if r.Detail != "" {
				fmt.Fprintf(l.out, "%d: %s: %s\n", r.ID, r.Outcome, r.Detail)
			}
			continue
		}
		if err := encoder.Encode(r); err != nil {
			return fmt.Errorf("print outcomes: %w", err)
		}
	}
	if l.json {
		return nil
	}
	fmt.Fprintf(l.out, "%d letters: %d stored, %d refused again, %d waiting, %d skipped\n",
		len(results), count[consume.Stored], count[consume.RefusedAgain], count[consume.Waiting], count["skipped"])
	if len(again) > 0 {
		const shown = 20
		more := ""
		if n := len(again) - shown; n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(l.out, "refused again: %s%s. They stay in the dead letters; `dlq show %s` says why and what to do, table refused_batches has the reason of each\n",
			strings.Join(again[:min(len(again), shown)], ", "), more, again[0])
	}
	if count[consume.Waiting] > 0 && wait > 0 {
		fmt.Fprintf(l.out, "those waiting are in the stream of batches, and no collector judged them within %s: check that one runs; there is no need to replay them again\n", wait)
	}
	return nil
}

func dlqShow() letterTool {
	return letterTool{
		use: "show NUMBER…", aliases: []string{"inspect"}, short: "Show letters in full, with what this build makes of their bytes and what to do", mustChoose: true, limit: 10,
		run: func(ctx context.Context, l *letters) error {
			chosen, _, err := l.choose(ctx)
			if err != nil {
				return err
			}
			decoder := batch.NewDecoder(batch.Limits{MaxAhead: l.cfg.Ingest.MaxAhead, MaxAge: l.cfg.Ingest.MaxAge})
			look := func(letter *consume.Letter) (any, error) {
				full, err := l.Get(ctx, letter.ID)
				if err != nil {
					return nil, err
				}
				return inspect(decoder, full), nil
			}
			if l.json {
				return eachLine(l.out, chosen, look)
			}
			for _, letter := range chosen {
				v, err := look(letter)
				if err != nil {
					return err
				}
				if err := v.(*inspection).print(l); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// inspection is a letter and what this build makes of its bytes.
type inspection struct {
	head
	// Verdict is why this build would refuse the batch if it came now, "" if it would store it.
	Verdict string  `json:"verdict"`
	Batch   *opened `json:"batch"` // null if the bytes cannot be read
	Head    []byte  `json:"first_bytes"`
}

// opened is what a batch says about itself.
type opened struct {
	Agent    string    `json:"agent"`
	Version  string    `json:"agent_version"`
	Boot     string    `json:"boot"`
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	Flows    int       `json:"flows"`
	First    time.Time `json:"first_start"` // of its flows; zero without
	Last     time.Time `json:"last_start"`
	Features int       `json:"features"`
	Sources  int       `json:"sources"`
}

// shownBytes of a letter are printed.
const shownBytes = 256

func inspect(decoder *batch.Decoder, l *consume.Letter) *inspection {
	v := &inspection{head: headOf(l), Head: l.Data[:min(len(l.Data), shownBytes)]}
	if _, err := decoder.Decode(l.Subject, l.Data, time.Now()); err != nil {
		v.Verdict = consume.Printable(err.Error())
	}
	b := decoder.Opened()
	if b == nil {
		return v
	}
	v.Batch = &opened{
		Agent: b.Agent, Version: b.AgentVersion, Boot: b.Boot, Sequence: b.Sequence, Time: b.Time,
		Flows: b.Len(), Features: len(b.Features), Sources: len(b.Sources),
	}
	for i, us := range b.Start {
		at := time.UnixMicro(us).UTC()
		if i == 0 || at.Before(v.Batch.First) {
			v.Batch.First = at
		}
		if at.After(v.Batch.Last) {
			v.Batch.Last = at
		}
	}
	return v
}

func (v *inspection) print(l *letters) error {
	now := "this build would store it now: replay it"
	if v.Verdict != "" {
		now = "this build would refuse it now: " + v.Verdict
	}
	todo := ""
	if reason, _, _ := strings.Cut(v.Verdict, ":"); v.Truncated > 0 {
		todo = "\n  do          its end is lost: drop it"
	} else if advice := batch.Reason(reason).Advice(); advice != "" {
		todo = "\n  do          " + advice
	}
	text := fmt.Sprintf("letter %d\n  refused     %s\n  reason      %s\n  now         %s%s\n  subject     %s\n  message id  %s\n  came        %s, number %d of the stream\n  bytes       %d",
		v.ID, v.Refused.Format(time.RFC3339Nano), v.Reason, now, todo, v.Subject, v.MessageID, v.Stored.Format(time.RFC3339Nano), v.Sequence, v.Bytes)
	if v.Truncated > 0 {
		text += fmt.Sprintf(", the beginning of %d: it cannot be replayed", v.Truncated)
	}
	if b := v.Batch; b != nil {
		version := b.Version
		if version == "" {
			version = "of no version"
		}
		text += fmt.Sprintf("\n  batch       agent %s (%s), boot %s, sequence %d, time %s\n  holds       %d flows, %d features, %d sources",
			b.Agent, consume.Printable(version), consume.Printable(b.Boot), b.Sequence, b.Time.Format(time.RFC3339Nano), b.Flows, b.Features, b.Sources)
		if b.Flows > 0 {
			text += fmt.Sprintf(", begun from %s to %s", b.First.Format(time.RFC3339Nano), b.Last.Format(time.RFC3339Nano))
		}
	}
	_, err := fmt.Fprintf(l.out, "%s\n%s\n", text, hex.Dump(v.Head))
	return err
}
