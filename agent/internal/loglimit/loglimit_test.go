package loglimit_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbwatch/ebbwatch/agent/internal/loglimit"
)

func logger() (*slog.Logger, *loglimit.Handler, *bytes.Buffer) {
	var out bytes.Buffer
	h := loglimit.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	return slog.New(h), h, &out
}

func TestOneMessageIsBoundedAndTheRestCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, h, out := logger()
		for i := range 36_000 { // ten a second for an hour
			log.Warn("publishing fails", "attempt", i)
			time.Sleep(100 * time.Millisecond)
		}
		lines := strings.Count(out.String(), "\n")
		if lines < 360 || lines > 381 {
			t.Errorf("%d lines in an hour", lines)
		}
		if h.Suppressed() != uint64(36_000-lines) {
			t.Errorf("%d lines and %d suppressed", lines, h.Suppressed())
		}
		if !strings.Contains(out.String(), "suppressed=99\n") {
			t.Error("no record tells how many were suppressed before it")
		}
	})
}

func TestMessagesDoNotDisturbEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, out := logger()
		other := log.With("part", "agent").WithGroup("g")
		for range 100 {
			log.Info("noise")
			other.Info("noise")
		}
		log.Error("something else")
		log.Debug("not enabled")
		if n := strings.Count(out.String(), "noise"); n != 20 {
			t.Errorf("%d of one message, through two loggers", n)
		}
		if !strings.Contains(out.String(), "something else") || strings.Contains(out.String(), "not enabled") {
			t.Error(out.String())
		}
		time.Sleep(time.Hour)
		for range 100 {
			log.Info("noise")
		}
		if n := strings.Count(out.String(), "noise"); n != 40 {
			t.Errorf("%d after an hour of silence", n)
		}
	})
}

func TestManyMessagesShareOneLimitAndBoundedMemory(t *testing.T) {
	log, h, out := logger()
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 10_000 {
				log.Info(fmt.Sprintf("message %d", g*10_000+i)) //nolint:sloglint // the mistake under test
			}
		})
	}
	all.Wait()
	if lines := strings.Count(out.String(), "\n"); lines != 520 || h.Suppressed() != 40_000-520 {
		t.Errorf("%d lines, %d suppressed", lines, h.Suppressed())
	}
}
