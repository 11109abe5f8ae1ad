package flowbpf

import (
	"log/slog"
	"os"
	"testing"
)

func TestSmoke(t *testing.T) {
	cfg := DefaultConfig()
	d, err := Load(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer d.Close()
	t.Log(d.Mode(), d.MapBytes())
	for _, f := range Probe() {
		t.Log(f.Name, f.Err)
	}
	frame := make([]byte, 64)
	copy(frame[12:], []byte{8, 0, 0x45, 0, 0, 50, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02})
	if err := d.Pretend(1, false); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := d.Run(&TestRun{Frame: frame}); err != nil {
			t.Fatal(err)
		}
	}
	tot, err := d.Drain(func(e *Entry) { t.Logf("%+v", *e) })
	t.Logf("%+v %v", tot, err)
	for range 7 {
		e, err := d.Benchmark(frame, 1000000, true)
		h, err2 := d.Benchmark(frame, 1000000, false)
		t.Log(e, h, err, err2)
	}
	tot, err = d.Drain(func(e *Entry) { t.Logf("%+v", *e) })
	t.Logf("%+v %v", tot, err)
}

func tail(s string) string { return s[max(0, len(s)-2500):] }
