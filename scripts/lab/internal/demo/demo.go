// Package demo shows Ebbwatch at work: it builds a lab, runs the real pipeline
// on one of its hosts, plays ordinary life and then attacks, and waits until
// each attack is found and the report about it has reached a webhook receiver.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/ebbwatch/ebbwatch/scripts/lab/internal/attack"
)

// ErrFailed is wrapped by the error of a demonstration that ran but did not
// show what it should.
var ErrFailed = errors.New("the demonstration failed")

// Options say what to play and how.
type Options struct {
	Bin        string        // path of the ebbwatch binary
	Out        io.Writer     // progress, for people
	Calm       time.Duration // ordinary traffic before the first attack
	Limit      time.Duration // of the whole
	Attacks    []string      // names of the attacks to play; empty for all
	Sizes      attack.Sizes
	Seed       uint64 // of the ordinary traffic
	Page       string // host:port on this machine where the page is shown; another port if it is taken
	Keep       bool   // after the result keep everything running until ctx ends
	DataDir    string // kept afterwards; "" for a temporary one
	Screenshot string // PNG of the page at the end; "" for none
	LLM        LLM    // words the report; the zero value for nobody
}

// LLM is a model's endpoint as this machine reaches it.
type LLM struct {
	BaseURL, APIKey, Model string
	Timeout                time.Duration // for the words of one report; 0 for the default
}

// Defaults returns the options of `lab demo`.
func Defaults() Options {
	return Options{
		Bin: "bin/ebbwatch", Out: os.Stdout, Calm: 45 * time.Second, Limit: 5 * time.Minute,
		Sizes: attack.DefaultSizes(), Seed: 1, Page: "127.0.0.1:8460",
		LLM: LLM{
			BaseURL: os.Getenv("EBBWATCH_LLM_BASE_URL"), APIKey: os.Getenv("EBBWATCH_LLM_API_KEY"), Model: os.Getenv("EBBWATCH_LLM_MODEL"),
		},
	}
}

// Result is the last line of the demonstration.
type Result struct {
	Attacks    int                `json:"attacks"`
	Found      int                `json:"found"`
	Unexpected int                `json:"unexpected"`
	Reports    int                `json:"reports"` // incident reports that reached the receiver
	Seconds    float64            `json:"seconds"`
	DetectS    map[string]float64 `json:"detect_s"` // by attack: seconds from before its first packet until the API told
	Author     string             `json:"author,omitempty"`
}

// Run plays the demonstration. The result is meaningful also with an error that
// wraps ErrFailed. Whatever happens, the lab is gone when it returns.
func Run(ctx context.Context, opts Options) (res Result, err error) {
	if _, err := os.Stat(opts.Bin); err != nil {
		return res, fmt.Errorf("find ebbwatch: %w: build it with `make build`", err)
	}
	if err := attack.CheckTools(); err != nil {
		return res, err
	}
	began := time.Now()
	say := &narrator{out: opts.Out, began: began}
	limited, cancel := context.WithTimeoutCause(ctx, opts.Limit, fmt.Errorf("%w: not done within %s", ErrFailed, opts.Limit))
	defer cancel()

	s, err := newStage(limited, opts, say)
	if err != nil {
		res.Attacks = len(s.attacks)
		return res, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	w := &watcher{stage: s, say: say, began: began}
	err = s.calm(limited, w)
	if err == nil {
		err = w.watch(limited, s.attack(limited))
	}
	res = w.result(time.Since(began))
	if ctx.Err() == nil {
		w.show()
		if opts.Screenshot != "" {
			say.line("screenshot of the page: %s", screenshot(ctx, s.pageURL, opts.Screenshot))
		}
	}
	if err == nil && (res.Found < res.Attacks || res.Unexpected > 0 || res.Reports == 0) {
		err = ErrFailed
	}
	if err != nil {
		s.tail()
	}
	if opts.Keep && ctx.Err() == nil {
		say.line("the lab keeps running: %s · stop it with Ctrl-C", s.pageURL)
		<-ctx.Done()
		return res, err
	}
	return res, err
}

// chosen returns the attacks that opts asks for.
func (o Options) chosen(h attack.Hosts) ([]*attack.Attack, error) {
	all := attack.All(h, o.Sizes)
	if len(o.Attacks) == 0 {
		return all, nil
	}
	var some []*attack.Attack
	for _, a := range all {
		if slices.Contains(o.Attacks, a.Name) {
			some = append(some, a)
		}
	}
	if len(some) != len(o.Attacks) {
		return nil, fmt.Errorf("attacks %v: want some of scan, flood, beacon, upload", o.Attacks)
	}
	return some, nil
}
