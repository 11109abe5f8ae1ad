package owner

import (
	"strings"
	"testing"
	"time"

	"github.com/ebbwatch/ebbwatch"
)

func TestPathsOfCgroups(t *testing.T) {
	const id = "3f4e1f6e5b0a6c1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f708192a3b"
	const pod = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
	under := strings.ReplaceAll(pod, "-", "_")
	const static = "9f86d081884c7d659a2feaa0c55ad015"
	for _, c := range []struct {
		name, path string
		want       place
	}{
		{"the root", "/", place{}},
		{"nothing", "", place{}},
		{"a system service", "/system.slice/nginx.service", place{unit: "nginx.service"}},
		{"an instance of a template", "/system.slice/system-getty.slice/getty@tty1.service", place{unit: "getty@tty1.service"}},
		{"an escaped unit", `/system.slice/dev-disk-by\x2duuid.service`, place{unit: `dev-disk-by\x2duuid.service`}},
		{"the first process", "/init.scope", place{unit: "init.scope"}},
		{"a login session", "/user.slice/user-1000.slice/session-3.scope", place{unit: "session-3.scope"}},
		{"a user's unit", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.service", place{unit: "user@1000.service/app-firefox.service"}},
		{"a user's manager", "/user.slice/user-1000.slice/user@1000.service/init.scope", place{unit: "user@1000.service/init.scope"}},
		{"a transient scope", "/system.slice/run-r0123456789abcdef0123456789abcdef.scope", place{unit: "run-r0123456789abcdef0123456789abcdef.scope"}},
		{"a cgroup that a service made below its own and named like another", "/system.slice/app.service/sshd.service", place{unit: "app.service"}},
		{"a slice alone", "/system.slice", place{}},
		{"docker under systemd", "/system.slice/docker-" + id + ".scope", place{container: id}},
		{"systemd inside docker", "/system.slice/docker-" + id + ".scope/system.slice/sshd.service", place{container: id}},
		{"docker by cgroupfs", "/docker/" + id, place{container: id}},
		{"docker inside docker", "/docker/" + id + "/docker/" + strings.Repeat("ab", 32), place{container: id}},
		{"docker's daemon", "/system.slice/docker.service", place{unit: "docker.service"}},
		{"containerd's pod", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope", place{pod: pod, container: id}},
		{"a guaranteed pod", "/kubepods.slice/kubepods-pod" + under + ".slice/cri-containerd-" + id + ".scope", place{pod: pod, container: id}},
		{"cri-o's pod", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/crio-" + id + ".scope", place{pod: pod, container: id}},
		{"cri-o's monitor", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/crio-conmon-" + id + ".scope", place{pod: pod}},
		{"a pod by cgroupfs", "/kubepods/burstable/pod" + pod + "/" + id, place{pod: pod, container: id}},
		{"a static pod", "/kubepods/burstable/pod" + static + "/" + id, place{pod: static, container: id}},
		{"kind: a node that is a container itself", "/docker/" + id + "/kubelet.slice/kubelet-kubepods.slice/x", place{container: id}},
		{"containerd with a path in systemd's notation", "/system.slice/containerd.service/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + id, place{unit: "containerd.service", pod: pod, container: id}},
		{"podman", "/machine.slice/libpod-" + id + ".scope", place{container: id}},
		{"podman with a folder below", "/machine.slice/libpod-" + id + ".scope/container", place{container: id}},
		{"podman's monitor", "/machine.slice/libpod-conmon-" + id + ".scope", place{unit: "libpod-conmon-" + id + ".scope"}},
		{"podman without root", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope", place{unit: "user@1000.service", container: id}},
		{"podman in a unit of its own", "/system.slice/web.service/libpod-payload-" + id, place{unit: "web.service", container: id}},
		{"a task of ECS", "/ecs/" + static + "/" + static + "-1234567890", place{}},
		{"a container of ECS", "/ecs/" + static + "/" + id, place{container: id}},
		{"a short id under docker", "/docker/0123456789ab", place{container: "0123456789ab"}},
		{"hexadecimal digits that are too few", "/docker/0123456789a", place{}},
		{"hexadecimal digits that are too many", "/docker/" + id + "0", place{}},
		{"a hexadecimal folder anywhere", "/build/0123456789ab", place{}},
		{"a pod's UID that is none", "/kubepods/podnothing/" + id, place{container: id}},
		{"a name with control characters", "/system.slice/\x1b[31m\xff.service", place{unit: "?[31m?.service"}},
	} {
		if got := parsePath(c.path); got != c.want {
			t.Errorf("%s: %q is %+v, want %+v", c.name, c.path, got, c.want)
		}
	}
}

func TestTheHierarchyThatTellsMostCounts(t *testing.T) {
	const id = "3f4e1f6e5b0a6c1d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f708192a3b"
	for name, c := range map[string]struct {
		lines string
		want  place
	}{
		"v2 alone":                  {"0::/system.slice/nginx.service\n", place{unit: "nginx.service"}},
		"v1 has the container":      {"5:memory:/docker/" + id + "\n1:name=systemd:/system.slice/docker.service\n0::/\n", place{container: id}},
		"v1 has the unit":           {"9:name=systemd:/system.slice/cron.service\n5:memory:/\n0::/\n", place{unit: "cron.service"}},
		"a colon in the path":       {"0::/a:b/nginx.service\n", place{unit: "nginx.service"}},
		"a cgroup that was removed": {"0::/system.slice/gone.service (deleted)\n", place{unit: "gone.service"}},
		"no lines":                  {"", place{}},
		"broken lines":              {"x\n::\n1:2\n", place{}},
	} {
		if got := parseCgroups(c.lines); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestTheV2HierarchyIsFoundBesideV1(t *testing.T) {
	const v1 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n35 31 0:32 / /sys/fs/cgroup/memory rw shared:4 - cgroup cgroup rw,memory\n"
	for name, c := range map[string]struct{ lines, want string }{
		"hybrid":                        {v1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		"unified":                       {"31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup"},
		"a blank in the path":           {"31 23 0:28 / /mnt/c\\0402 rw - cgroup2 none rw\n", "/mnt/c 2"},
		"a part is mounted elsewhere":   {"30 23 0:28 /docker/x /sub rw - cgroup2 cgroup2 rw\n31 23 0:28 / /all rw - cgroup2 cgroup2 rw\n", "/all"},
		"a backslash that is not octal": {"31 23 0:28 / /mnt/\\zzz rw - cgroup2 none rw\n", "/mnt/\\zzz"},
		"none":                          {v1, ""},
	} {
		got, err := findCgroup2(strings.NewReader(c.lines))
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

func TestNamesAreMadePrintable(t *testing.T) {
	for in, want := range map[string]string{
		"nginx":                        "nginx",
		"Web Content":                  "Web Content",
		"日本":                           "日本",
		"\x1b[31mred":                  "?[31mred",
		"a\xff\xfeb":                   "a??b",
		"new\nline":                    "new?line",
		"\u202eright to left":          "???right to left",
		"\ufffd":                       "???",
		strings.Repeat("日", 100) + "!": strings.Repeat("日", 85),
		"":                             "",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzNamesAndPathsStayInBounds(f *testing.F) {
	f.Add("/system.slice/docker-0123456789ab.scope", "1 (a) b) R 0 0", "Uid:\t0\n")
	f.Fuzz(func(t *testing.T, path, stat, status string) {
		p := parsePath(path)
		for _, s := range []string{p.unit, p.container, p.pod} {
			if len(s) > ebbwatch.MaxName || printable(s) != s {
				t.Errorf("%q gives %q", path, s)
			}
		}
		if proc, err := parseStat([]byte(stat)); err == nil && len(proc.name) > ebbwatch.MaxName {
			t.Errorf("%q gives a name of %d bytes", stat, len(proc.name))
		}
		_, _ = parseUID([]byte(status))
	})
}

func TestStatOfAProcessWithParenthesesInItsName(t *testing.T) {
	p, err := parseStat([]byte("42 (a) (b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20\n"))
	if err != nil || p.name != "a) (b" || p.started != 7770*time.Millisecond {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"", "42", "42 (a", ")(", "42 (a) R 1 2", "42 (a) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
