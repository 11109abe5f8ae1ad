package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheArchiveIsWhatOtherToolsUnpack(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("cpio is not installed")
	}
	source := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(source, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := NewWriter(&archive)
	w.Dir("etc")
	w.Bytes("/a/b/three", 0o600, []byte("333"))
	w.Bytes("a/b/empty", 0o644, nil)
	w.File("init", source)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	cmd := exec.Command("cpio", "--extract", "--quiet", "--make-directories")
	cmd.Dir, cmd.Stdin = out, &archive
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, said)
	}
	for name, want := range map[string]string{"a/b/three": "333", "a/b/empty": "", "init": "#!/bin/sh\n"} {
		got, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
		}
	}
	if info, err := os.Stat(filepath.Join(out, "init")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("init: %v, %v", info, err)
	}
	if info, err := os.Stat(filepath.Join(out, "etc")); err != nil || !info.IsDir() {
		t.Errorf("etc: %v, %v", info, err)
	}
}

func TestTheArchiveIsLaidOutAsTheKernelReadsIt(t *testing.T) {
	var archive bytes.Buffer
	w := NewWriter(&archive)
	w.Console()
	w.Bytes("x", 0o644, []byte("12345"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if archive.Len()%4 != 0 {
		t.Errorf("%d bytes: not a multiple of 4", archive.Len())
	}
	var names []string
	for rest := archive.String(); ; {
		if !strings.HasPrefix(rest, "070701") {
			t.Fatalf("no header at %.20q", rest)
		}
		nameSize, size := field(t, rest, 11), field(t, rest, 6)
		name := rest[110 : 110+nameSize-1]
		names = append(names, name)
		if name == "dev/console" && (field(t, rest, 9) != 5 || field(t, rest, 10) != 1 || field(t, rest, 1)&0o170000 != modeChar) {
			t.Errorf("the console is no device 5:1: %.110s", rest)
		}
		if name == "TRAILER!!!" {
			break
		}
		data := (110 + nameSize + 3) &^ 3
		rest = rest[(data+size+3)&^3:]
	}
	if got := strings.Join(names, " "); got != "dev dev/console x TRAILER!!!" {
		t.Errorf("entries: %s", got)
	}
}

// field returns the i-th number of a header.
func field(t *testing.T, header string, i int) (n int) {
	t.Helper()
	for _, c := range header[6+8*i : 14+8*i] {
		n = n<<4 | strings.IndexRune("0123456789abcdef", c)
	}
	return n
}

func TestAMissingFileMakesTheArchiveFail(t *testing.T) {
	w := NewWriter(&bytes.Buffer{})
	w.File("init", filepath.Join(t.TempDir(), "missing"))
	w.Dir("etc")
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("close: %v", err)
	}
}
