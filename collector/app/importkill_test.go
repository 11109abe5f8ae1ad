package app

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ebbwatch/ebbwatch/collector/internal/importer"
	"github.com/ebbwatch/ebbwatch/collector/internal/proctest"
	"github.com/ebbwatch/ebbwatch/internal/chtest"
)

// importKilled kills the process of an import by kill -9, each time a little after
// another block is stored, and runs it again, until it comes to its end.
func importKilled(s *store) {
	const records, blocks, kills = 400_000, 8, 6
	path := s.lines(records)
	command := s.process()
	r := rand.New(rand.NewPCG(9, 9))
	stored := func(agent string) int {
		n, err := strconv.Atoi(s.query("SELECT max(blocks) FROM DB.imports FINAL WHERE agent = '" + agent + "'"))
		if err != nil {
			s.Fatal(err)
		}
		return n
	}
	for killed := range kills {
		cmd, output := command("csv", path, "--agent", "killed")
		if err := cmd.Start(); err != nil {
			s.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		for deadline := time.Now().Add(time.Minute); stored("killed") <= killed; time.Sleep(5 * time.Millisecond) {
			select {
			case err := <-done:
				s.Fatalf("import %d ended before it was killed: %v\n%s", killed, err, output)
			default:
			}
			if time.Now().After(deadline) {
				_ = cmd.Process.Kill() // it hangs
				s.Fatalf("import %d does not go on\n%s", killed, output)
			}
		}
		time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			s.Fatal(err)
		}
		<-done
	}
	if n := stored("killed"); n < kills || n >= blocks {
		s.Errorf("%d of %d blocks are stored after %d kills: the kills did not come in the midst", n, blocks, kills)
	}
	for _, agent := range []string{"killed", "killed", "clean"} { // to its end, once more, and at one go
		cmd, output := command("csv", path, "--agent", agent)
		if err := cmd.Run(); err != nil {
			s.Fatalf("%v\n%s", err, output)
		}
	}
	s.want("SELECT agent, count(), uniqExact(src_ip, src_port, dst_ip, start) FROM DB.flows GROUP BY agent ORDER BY agent", fmt.Sprintf("clean\t%d\t%d\nkilled\t%d\t%[1]d", records, records, records))
	for _, table := range []string{"flows", "flows_1m"} {
		rows := "SELECT sum(cityHash64(*)), count() FROM (SELECT * EXCEPT agent FROM DB." + table + " FINAL WHERE agent = '%s')"
		if table == "flows" {
			rows = "SELECT sum(cityHash64(*)), count() FROM (SELECT * EXCEPT agent FROM DB.flows WHERE agent = '%s')"
		}
		s.want(fmt.Sprintf("SELECT ("+rows+") = ("+rows+")", "killed", "clean"), "1")
	}
	s.want("SELECT agent, sum(flows), count(), uniqExact(boot, sequence) FROM DB.coverage GROUP BY agent ORDER BY agent", fmt.Sprintf("clean\t%d\t%d\t%[2]d\nkilled\t%[1]d\t%[2]d\t%[2]d", records, blocks))
	s.want(rollupIsRaw, "1")
}

// importBomb imports a file that expands to 200 MiB, most of it one line, and then
// half a million lines that hold nothing.
func importBomb(s *store) {
	path := filepath.Join(s.TempDir(), "flows.csv.gz")
	file, err := os.Create(path)
	if err != nil {
		s.Fatal(err)
	}
	defer file.Close()
	z := gzip.NewWriter(file)
	record := time.Now().UTC().Add(-time.Minute).Format(time.RFC3339) + ",10.0.0.1,10.0.0.2\n"
	line, empty := bytes.Repeat([]byte("x"), 1<<20), bytes.Repeat([]byte("x\n"), 1<<19)
	_, err = z.Write([]byte("start,src_ip,dst_ip\n" + record))
	for i := range 200 {
		part := line
		if i > 198 {
			part = empty
		}
		_, partErr := z.Write(part)
		err = errors.Join(err, partErr)
	}
	_, lastErr := z.Write([]byte(record))
	if err := errors.Join(err, lastErr, z.Close()); err != nil {
		s.Fatal(err)
	}
	cmd, output := s.process()("csv", path, "--json")
	peak, err := proctest.RunAndWatch(cmd)
	if err != nil {
		s.Fatalf("%v\n%s", err, output)
	}
	var sum importer.Summary
	if err := json.NewDecoder(bytes.NewReader(output.Bytes()[bytes.IndexByte(output.Bytes(), '{'):])).Decode(&sum); err != nil {
		s.Fatalf("%v\n%s", err, output)
	}
	if sum.Rows != 2 || sum.Rejected[importer.ReasonLong] != 1 || sum.Rejected["wrong number of fields"] != 1<<19-1 {
		s.Errorf("the summary is %+v", sum)
	}
	if peak == 0 || peak > 120<<20 {
		s.Errorf("the process took %.0f MiB", peak/(1<<20))
	}
	s.Logf("the process took %.0f MiB", peak/(1<<20))
}

// process returns what makes the command `import ARGS` a process of its own.
func (s *store) process() func(args ...string) (*exec.Cmd, *bytes.Buffer) {
	s.Helper()
	bin, c := chtest.Binary(s), s.cfg.ClickHouse
	file := filepath.Join(s.TempDir(), "collector.yaml")
	text := fmt.Sprintf("clickhouse: {address: '%s', database: %s, user: %s, password: '%s'}\n", c.Address, c.Database, c.User, string(c.Password))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	return func(args ...string) (*exec.Cmd, *bytes.Buffer) {
		cmd, output := exec.Command(bin, append([]string{"collector", "import", args[0], "--config", file}, args[1:]...)...), new(bytes.Buffer)
		cmd.Stdout, cmd.Stderr = output, output
		return cmd, output
	}
}
