package app_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// serveTCP accepts on address and answers each byte stream's end with answer bytes.
func serveTCP(t *testing.T, address string, answer int) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c)
			_, _ = c.Write(make([]byte, answer))
			c.Close()
		}
	}()
	return nil
}

// callTCP sends bytes, closes its side, and reads the answer to its end.
func callTCP(address string, bytes int) (answer int64, local string, err error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, "", err
	}
	if _, err := c.Write(make([]byte, bytes)); err != nil {
		return 0, "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return 0, "", err
	}
	answer, err = io.Copy(io.Discard, c)
	return answer, c.LocalAddr().String(), err
}

// serveUDP answers every second datagram.
func serveUDP(t *testing.T, address string) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 2048)
		for n := 0; ; n++ {
			size, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if n%2 == 1 {
				_, _ = c.WriteTo(buf[:size], from)
			}
		}
	}()
	return nil
}

// sendUDP sends n datagrams of size bytes and waits for the answers.
func sendUDP(address string, n, size, answers int) (local string, err error) {
	c, err := net.Dial("udp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	for range n {
		if _, err := c.Write(make([]byte, size)); err != nil {
			return "", err
		}
	}
	buf := make([]byte, 2048)
	for range answers {
		if _, err := c.Read(buf); err != nil {
			return "", err
		}
	}
	return c.LocalAddr().String(), nil
}

// spray sends one datagram to each of n ports of address.
func spray(address string, n int) error {
	c, err := net.ListenPacket("udp", ":0") // not connected: the refusals that come back are not ours
	if err != nil {
		return err
	}
	defer c.Close()
	for port := range n {
		if _, err := c.WriteTo([]byte("probe"), &net.UDPAddr{IP: net.ParseIP(address), Port: 1024 + port}); err != nil {
			return err
		}
	}
	return nil
}

// stream sends datagrams from h, one a millisecond, until stop is called.
func stream(t *testing.T, h *host, address string) (stop func() (sent, answered int)) {
	t.Helper()
	var c net.Conn
	h.at(t, func() (err error) { c, err = net.Dial("udp", address); return err })
	done, result, answers := make(chan struct{}), make(chan int), make(chan int)
	go func() {
		n := 0
		defer func() { result <- n }()
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
			if _, err := fmt.Fprintf(c, "%d", n); err == nil {
				n++
			}
		}
	}()
	go func() {
		n, buf := 0, make([]byte, 100)
		defer func() { answers <- n }()
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			n++
		}
	}()
	return func() (int, int) {
		close(done)
		sent := <-result
		time.Sleep(300 * time.Millisecond) // what is on its way
		c.Close()
		return sent, <-answers
	}
}
