package doctor_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/ebbwatch/ebbwatch/agent/internal/doctor"
)

const role = "EBBWATCH_TEST_DOCTOR"

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func TestHereTheAgentCanRun(t *testing.T) {
	needRoot(t)
	if err := doctor.Privileges(); err != nil {
		t.Error(err)
	}
	r := doctor.Diagnose(doctor.Finding{Name: "extra", Detail: "optional"})
	for _, f := range r.Findings {
		if f.Required && !f.Works {
			t.Errorf("%s: %s", f.Name, f.Detail)
		}
		if f.Name == "" || f.Purpose == "" && f.Name != "extra" {
			t.Errorf("finding without name or purpose: %+v", f)
		}
	}
	if !r.CanRun {
		t.Error("cannot run")
	}
	var text, js bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteJSON(&js); err != nil {
		t.Fatal(err)
	}
	t.Logf("text:\n%s", text.String())
	if !strings.Contains(text.String(), "The agent can run here.") || !strings.Contains(text.String(), "extra") {
		t.Error("the text does not say so")
	}
	var back doctor.Report
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || len(back.Findings) != len(r.Findings) {
		t.Errorf("json: %v\n%s", err, js.String())
	}
}

// The test runs itself as an ordinary user, who may do nothing.
func TestWithoutPrivilegesItSaysWhichInOneSentence(t *testing.T) {
	if os.Getenv(role) != "" {
		err := doctor.Privileges()
		if err == nil {
			t.Fatal("no error")
		}
		t.Logf("error: %v", err)
		r := doctor.Diagnose()
		t.Logf("can run: %v", r.CanRun)
		kernel := 0
		for _, f := range r.Findings {
			if !f.Works && !f.Untested && f.Advice == "" {
				t.Errorf("%s does not work, and no advice: %s", f.Name, f.Detail)
			}
			if f.Untested {
				kernel++
				if f.Works || f.Advice != "" || f.Detail != "needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON" {
					t.Errorf("%s is not tested, but: %+v", f.Name, f)
				}
			}
		}
		if kernel != 19 {
			t.Errorf("%d features are not tested, want all but the one that anybody may read", kernel)
		}
		var text bytes.Buffer
		if err := r.WriteText(&text); err != nil {
			t.Error(err)
		}
		for _, wrong := range []string{"MEMLOCK", "1024", "operation not permitted", "sch_ingress"} {
			if strings.Contains(text.String(), wrong) {
				t.Errorf("%q is not the reason:\n%s", wrong, text.String())
			}
		}
		if !strings.Contains(text.String(), "The agent cannot run here.") || !strings.Contains(text.String(), "not tested") {
			t.Errorf("text:\n%s", text.String())
		}
		return
	}
	needRoot(t)
	dir := t.TempDir() // the test binary may lie where the user may not go
	self := dir + "/doctor.test"
	data, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(self, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != os.TempDir() && d != "/"; d = d[:strings.LastIndex(d, "/")] {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), role+"=1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"error: the agent lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON: run it as root, or grant", "can run: false"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("does not say %q:\n%s", want, out)
		}
	}
}
