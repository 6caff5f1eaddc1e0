package main

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxy is the network between one client and the server. What it holds back it delivers later, as real ones do, unless it is
// cut meanwhile.
type proxy struct {
	listener net.Listener
	target   string
	delay    atomic.Int64    // of each chunk
	held     [2]atomic.Int32 // what is said to the server waits, and what it answers

	mu    sync.Mutex
	conns []net.Conn
	pumps sync.WaitGroup
}

const (
	requests = iota
	answers
)

func startProxy(t testing.TB, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, target: strings.TrimPrefix(target, "nats://")}
	p.pumps.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.pumps.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.pumps.Go(func() { p.pump(server, client, requests) })
		p.pumps.Go(func() { p.pump(client, server, answers) })
	}
}

// pump passes bytes on until either side ends.
func (p *proxy) pump(to, from net.Conn, direction int) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		for p.held[direction].Load() > 0 && p.knows(to) {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(p.delay.Load()))
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) knows(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, known := range p.conns {
		if known == c {
			return true
		}
	}
	return false
}

// hold holds a direction back for a while.
func (p *proxy) hold(direction int, d time.Duration) {
	p.held[direction].Add(1)
	time.AfterFunc(d, func() { p.held[direction].Add(-1) })
}

// freeze holds everything back for a while.
func (p *proxy) freeze(d time.Duration) {
	p.hold(requests, d)
	p.hold(answers, d)
}

// cut ends all connections. New ones work.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
