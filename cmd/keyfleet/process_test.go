package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/clock"
)

// TestMain makes this test binary serve as keyfleet, and as the few tools that scripts and the README use.
func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"keyfleet": mainByAnyClock, "nats": natsTool, "bare": bareServers})
}

// clockVariable says by how much the wall clock of processes that are started is ahead.
const clockVariable = "TEST_CLOCK_AHEAD"

// wrongClock is a machine's whose wall clock is set wrong.
type wrongClock struct {
	clock.System
	ahead time.Duration
}

func (c wrongClock) Now() time.Time { return c.System.Now().Add(c.ahead) }

func (c wrongClock) Both() (time.Time, time.Duration) {
	now, elapsed := c.System.Both()
	return now.Add(c.ahead), elapsed
}

func mainByAnyClock() {
	if text := os.Getenv(clockVariable); text != "" {
		ahead, err := time.ParseDuration(text)
		if err != nil {
			panic(err)
		}
		machineClock = wrongClock{ahead: ahead}
	}
	main()
}

// tests are run in an environment that says nothing of the developer's own Keyfleet.
type tests struct{ *testing.M }

func (t tests) Run() int {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, environmentPrefix) {
			_ = os.Unsetenv(name)
		}
	}
	// With the race detector every process else sleeps for a second before it ends.
	_ = os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	// What verifiers must not forget is on tmpfs, and goes with the tests.
	if run, err := os.MkdirTemp("/dev/shm", "keyfleet-test-"); err == nil {
		_ = os.Setenv("RUNTIME_DIRECTORY", run)
		defer func() { _ = os.RemoveAll(run) }()
	}
	return t.M.Run()
}

// natsTool is as much of the stock client as the README shows: nats [-s URL] req SUBJECT BODY.
func natsTool() {
	args := os.Args[1:]
	url := nats.DefaultURL
	if len(args) == 5 && args[0] == "-s" {
		url, args = args[1], args[2:]
	}
	if len(args) != 3 || args[0] != "req" {
		fmt.Fprintf(os.Stderr, "nats: the tests know only nats [-s URL] req SUBJECT BODY, not %q\n", os.Args)
		os.Exit(2)
	}
	nc, err := nats.Connect(url)
	if err == nil {
		defer nc.Close()
		var reply *nats.Msg
		if reply, err = nc.Request(args[1], []byte(args[2]), 10*time.Second); err == nil {
			fmt.Println(string(reply.Data))
			return
		}
	}
	fmt.Fprintln(os.Stderr, "nats:", err)
	os.Exit(1)
}

// devProcess is a keyfleet dev in a process of its own.
type devProcess struct {
	devFile
	data   string
	cmd    *exec.Cmd
	stderr *lockedBuffer
	ended  chan struct{}
}

var freePorts = []string{
	"--nats", "127.0.0.1:0", "--http", "127.0.0.1:0", "--check", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--gateway", "127.0.0.1:0",
}

// launchDev returns once dev says that it is ready.
func launchDev(data string, args ...string) (*devProcess, error) {
	d, ready, err := spawnDev(data, args...)
	if err != nil {
		return nil, err
	}
	if !<-ready {
		<-d.ended
		return nil, fmt.Errorf("dev does not get ready:\n%s", d.stderr)
	}
	return d, d.readAddresses()
}

// spawnDev returns at once. The channel says whether dev got ready, or ended.
func spawnDev(data string, args ...string) (*devProcess, <-chan bool, error) {
	d := &devProcess{data: data, stderr: &lockedBuffer{}, ended: make(chan struct{})}
	args = append(append([]string{"dev", "--data", data, "--log-level", "debug"}, freePorts...), args...)
	d.cmd = exec.Command("keyfleet", args...)
	d.cmd.Stderr = d.stderr
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, nil, err
	}
	ready := make(chan bool, 2)
	go func() {
		defer close(d.ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if strings.Contains(lines.Text(), "Ctrl-C stops") {
				ready <- true
			}
		}
		ready <- false
		_ = d.cmd.Wait()
	}()
	return d, ready, nil
}

// readAddresses says where a dev that is ready is to be found.
func (d *devProcess) readAddresses() (err error) {
	if d.devFile, err = readDevFile(devFilePath(d.data)); err != nil || d.NATS == "" {
		d.kill()
		return fmt.Errorf("dev is ready without a dev.json: %w", err)
	}
	return nil
}

func startDev(t testing.TB, data string, args ...string) *devProcess {
	t.Helper()
	d, err := launchDev(data, args...)
	require.NoError(t, err)
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("dev said:\n%s", withoutPebble(d.stderr.String()))
		}
	})
	return d
}

// withoutPebble leaves out what says nothing of Keyfleet.
func withoutPebble(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "pebble:") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// kill is kill -9.
func (d *devProcess) kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
}

// stop asks it to end, and gives its exit status.
func (d *devProcess) stop() int {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	<-d.ended
	return d.cmd.ProcessState.ExitCode()
}

// caughtUp returns once the verifier has applied what was recorded up to seq: it holds the answer to a check
// with that min_seq until then.
func (d *devFile) caughtUp(ctx context.Context, seq uint64) error {
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.Check+"/v1/check/demo/echo-model", nil)
		if err != nil {
			return err
		}
		r.Header.Set("X-Api-Key", apikey.Generate().Reveal())
		r.Header.Set("Keyfleet-Min-Seq", strconv.FormatUint(seq, 10))
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusServiceUnavailable {
			return nil
		}
	}
}

// keyfleet runs the binary against a dev and gives its standard output and exit status.
func (d *devProcess) keyfleet(t testing.TB, stdin string, args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.Command("keyfleet", args...)
	cmd.Env = append(os.Environ(), "KEYFLEET_DATA="+d.data)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	t.Logf("keyfleet %s: %d\n%s%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), stdout.String(), stderr.String())
	return stdout.String(), cmd.ProcessState.ExitCode()
}

// get asks over HTTP with a key.
func get(t *testing.T, method, url, key, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	require.NoError(t, err)
	if key != "" {
		r.Header.Set("X-Api-Key", key)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

// lockedBuffer is written by a process and read by a test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
