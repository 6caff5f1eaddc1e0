package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"time"
)

// process is a server of the stand.
type process struct {
	cmd       *exec.Cmd
	addresses map[string]string // of its listeners, as its log names them
	ended     chan struct{}
}

var (
	namedAddress = regexp.MustCompile(`\b(\w+)=(\S+:\d+)`)
	saysItRuns   = regexp.MustCompile(` runs"`)
)

const startTimeout = time.Minute

// startProcess returns once the server says that it runs, which some do when they have read the log.
func startProcess(ctx context.Context, patience time.Duration, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	said, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	last := &tail{}
	runs := make(chan map[string]string, 1)
	go func() {
		defer close(p.ended)
		addresses := map[string]string{}
		for lines := bufio.NewScanner(io.TeeReader(said, last)); lines.Scan(); {
			for _, found := range namedAddress.FindAllStringSubmatch(lines.Text(), -1) {
				addresses[found[1]] = found[2]
			}
			if addresses != nil && saysItRuns.MatchString(lines.Text()) {
				runs <- addresses
				addresses = map[string]string{}
			}
		}
		_, _ = io.Copy(io.Discard, said) // after a line that is too long
		_ = p.cmd.Wait()
	}()
	select {
	case p.addresses = <-runs:
		return p, nil
	case <-p.ended:
	case <-ctx.Done():
	case <-time.After(patience):
	}
	p.stop()
	return nil, fmt.Errorf("%s %v does not start: %s", program, args, last)
}

// startSilent starts a server that has its own way to say that it runs.
func startSilent(ctx context.Context, runs func() bool, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	if err := await(ctx, startTimeout, program+" to run", runs); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// stop ends it, the hard way if it takes longer than it should.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// cpuTimes is what all of them have used of the cores so far.
func cpuTimes(processes []*process) (sum time.Duration, err error) {
	for _, p := range processes {
		used, err := cpuTime(p.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// tail keeps the end of what a process says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, text...)
	t.text = t.text[max(0, len(t.text)-4096):]
	return len(text), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
