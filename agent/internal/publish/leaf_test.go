package publish_test

import (
	"net"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/ebbwatch/ebbwatch"
)

// deployed starts a server with a file of deploy/nats and variables in its environment.
func deployed(t *testing.T, file string, env map[string]string) *server.Server {
	t.Helper()
	for name, value := range env {
		t.Setenv(name, value)
	}
	for _, user := range []string{"AGENT", "COLLECTOR", "ANALYZER", "LEAF"} {
		t.Setenv("NATS_"+user+"_PASSWORD", "of-a-test")
	}
	_, here, _, _ := runtime.Caller(0)
	opts, err := server.ProcessConfigFile(filepath.Join(filepath.Dir(here), "..", "..", "..", "deploy", "nats", file))
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	opts.LeafNode.NoAdvertise = true // a leaf node must not find a way around the test's wire
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatalf("the server of %s is not ready", file)
	}
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func loginAs(user, address string) string { return "nats://" + user + ":of-a-test@" + address }

// A site's agents reach the hub through a leaf node that keeps nothing.
func TestASiteBehindALeafNodeOutlivesItsHub(t *testing.T) {
	address, leafs, site, data := freeAddress(t), freeAddress(t), freeAddress(t), t.TempDir()
	hub := func() *server.Server {
		return deployed(t, "server.conf", map[string]string{
			"NATS_NAME": "hub", "NATS_LISTEN": address, "NATS_DATA": data, "NATS_LEAF_LISTEN": leafs,
		})
	}
	s := hub()
	admin := loginAs("collector", address)
	createStream(t, admin, -1)
	stream := shortWindow(t, admin, 3)
	wire := newWire(t, leafs) // between the site and the hub
	remote := loginAs("leaf", wire.ln.Addr().String())
	deployed(t, "leaf.conf", map[string]string{"NATS_NAME": "site", "NATS_LISTEN": site, "NATS_HUB_1": remote, "NATS_HUB_2": remote, "NATS_HUB_3": remote})
	h := startWith(t, loginAs("agent", site), withSpool(filepath.Join(t.TempDir(), "spool"), 1<<30))
	h.publish(40)
	eventually(t, "the hub has the first", func() bool { return messages(t, stream) == 40 })
	eventually(t, "and the agent knows", func() bool { return h.metric("published_batches_total") == 40 })

	wire.silence() // answers get lost on the way to the site
	h.together(7)
	eventually(t, "the hub has the next, unknown to the agent", func() bool { return messages(t, stream) == 47 })
	wire.cut()
	h.publish(20)
	eventually(t, "what the site makes meanwhile is in the spool", func() bool { return h.metric("spool_batches") == 27 })
	time.Sleep(10 * time.Second) // the hub forgets the ids; the agent tries and tries
	wire.mend()
	eventually(t, "the hub has them all", func() bool { return messages(t, stream) == 67 && h.metric("spool_batches") == 0 })
	if n := h.metric("found_stored_batches_total"); n != 7 {
		t.Errorf("%d were found stored", n)
	}

	// The hub itself ends and comes back.
	s.Shutdown()
	s.WaitForShutdown()
	h.publish(30)
	eventually(t, "the site keeps what it makes", func() bool { return h.metric("spool_batches") == 30 })
	hub()
	var err error
	if stream, err = jetStream(t, admin).Stream(t.Context(), ebbwatch.FlowStream); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hub has these too", func() bool { return messages(t, stream) == 97 })
	first := h.Boot()
	h.finish()
	if got := arrived(t, stream); !slices.Equal(got, idsOf(first, 97)) {
		t.Errorf("%d arrived: %v", len(got), got)
	}
}

// Nobody at a site may send what an agent may not, as far as the hub can tell.
func TestALeafNodeMayDoNoMoreThanItsAgents(t *testing.T) {
	hub, leafs := freeAddress(t), freeAddress(t)
	deployed(t, "server.conf", map[string]string{"NATS_NAME": "hub", "NATS_LISTEN": hub, "NATS_DATA": t.TempDir(), "NATS_LEAF_LISTEN": leafs})
	stream := createStream(t, loginAs("collector", hub), -1)
	// A leaf node whose own users may do anything.
	remote, err := url.Parse(loginAs("leaf", leafs))
	if err != nil {
		t.Fatal(err)
	}
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, ServerName: "rogue"}
	opts.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: []*url.URL{remote}}}
	rogue, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	rogue.Start()
	t.Cleanup(func() { rogue.Shutdown(); rogue.WaitForShutdown() })
	js := jetStream(t, rogue.ClientURL())
	nc := js.Conn()
	eventually(t, "it may publish batches", func() bool {
		_, err := js.Publish(t.Context(), ebbwatch.FlowSubject("web-1"), []byte("a"))
		return err == nil
	})
	heard, err := nc.SubscribeSync("ebbwatch.>")
	if err != nil {
		t.Fatal(err)
	}
	before := messages(t, stream)
	_ = nc.Publish("$JS.API.STREAM.PURGE."+ebbwatch.FlowStream, nil)
	_ = nc.Publish("$JS.API.STREAM.DELETE."+ebbwatch.FlowStream, nil)
	if _, err := js.Publish(t.Context(), ebbwatch.FlowSubject("web-1"), []byte("b")); err != nil { // on the same way, behind them
		t.Error(err)
	}
	if now := messages(t, stream); now != before+1 {
		t.Errorf("the stream had %d batches, then one more came, and it has %d", before, now)
	}
	c, err := nats.Connect(loginAs("agent", hub))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Publish(ebbwatch.FlowSubject("web-2"), []byte("c")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream has an agent's batch", func() bool { return messages(t, stream) == before+2 })
	for {
		msg, err := heard.NextMsg(200 * time.Millisecond)
		if err != nil {
			break
		}
		if msg.Subject == ebbwatch.FlowSubject("web-2") {
			t.Error("it hears the batches of others")
		}
	}
	if c, err := nats.Connect(loginAs("leaf", hub)); err == nil {
		c.Close()
		t.Error("a client may connect as a leaf node")
	}
}
