package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serveNATS is the NATS server's process, which is this program again: so it can
// be killed.
func serveNATS(args []string) int {
	flags := flag.NewFlagSet("nats", flag.ExitOnError)
	port := flags.Int("port", 0, "")
	dir := flags.String("dir", "", "")
	always := flags.Bool("sync-always", false, "")
	_ = flags.Parse(args) // ends the process on an error
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: *port, JetStream: true, StoreDir: *dir, NoSigs: true, NoLog: true, SyncInterval: time.Second, SyncAlways: *always,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "start NATS:", err)
		return 1
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		fmt.Fprintln(os.Stderr, "start NATS: not ready for connections")
		return 1
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
	s.Shutdown()
	s.WaitForShutdown()
	return 0
}
