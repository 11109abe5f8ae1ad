package engine

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Where there are no terminals, as in a container without devpts, the engine runs
// all the same, and it is said what that costs.
func TestWithoutATerminalTheEngineRuns(t *testing.T) {
	needEngine(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can hide /dev/ptmx")
	}
	cfg := freeConfig(t)
	var log bytes.Buffer
	parent := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind /dev/null /dev/ptmx && exec "$0"`, os.Args[0])
	parent.Env = append(os.Environ(), holdVariable+"="+t.TempDir(), fmt.Sprintf("%s=%d %d", portsVariable, cfg.TCPPort, cfg.HTTPPort))
	parent.Stderr = &log
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = stdout.Read(make([]byte, len("ready")))
	killErr := parent.Process.Kill()
	_ = parent.Wait() // killed
	if err != nil || killErr != nil {
		t.Fatalf("it does not run: %v, %v: %s", err, killErr, log.Bytes())
	}
	if !bytes.Contains(log.Bytes(), []byte("/dev/ptmx")) {
		t.Errorf("it does not say that there is no terminal: %s", log.Bytes())
	}
}
