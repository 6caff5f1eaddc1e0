package socket

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/fuzztest"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
)

// echoing answers with the key's first byte as the reason, and with what else the request says.
type echoing struct{}

func (echoing) Check(ctx context.Context, r verifier.Request) verifier.Answer {
	a := verifier.Answer{Seq: r.MinSeq, Staleness: 1500 * time.Microsecond, Stale: r.Project == "stale"}
	copy(a.Key[:], r.Deployment)
	if len(r.Key) == 0 {
		<-ctx.Done() // it hangs
		return verifier.Answer{}
	}
	a.Reason = projections.Reason(r.Key[0])
	return a
}

func serve(t testing.TB, c Checker) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "kf") //nolint:usetesting // the path of a socket may not be long
	require.NoError(t, err)
	path = filepath.Join(dir, "check.sock")
	l, err := Listen(path)
	require.NoError(t, err)
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- Serve(ctx, l, c) }()
	t.Cleanup(func() {
		end()
		require.NoError(t, <-served)
		require.NoError(t, os.RemoveAll(dir))
	})
	return path
}

func dial(t testing.TB, path string) *Client {
	t.Helper()
	c, err := Dial(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestOutcomes(t *testing.T) {
	c := dial(t, serve(t, echoing{}))
	for _, reason := range projections.Reasons() {
		a, err := c.Check(t.Context(), verifier.Request{Project: "demo", Deployment: "d", Key: []byte{byte(reason)}, MinSeq: 7})
		require.NoError(t, err)
		want := Answer{Outcome: reason.Class(), Seq: 7, Staleness: time.Millisecond}
		if reason == projections.Allowed {
			want.Key = events.KeyID{'d'}
		}
		require.Equal(t, want, a, "%s: of a refused key nothing is told", reason)
		require.Equal(t, reason == projections.Allowed, a.Allowed())
	}
	a, err := c.Check(t.Context(), verifier.Request{Project: "stale", Key: []byte{1}})
	require.NoError(t, err)
	require.True(t, a.Stale)
}

// The bytes are a promise to clients in other languages.
func TestBytes(t *testing.T) {
	frame, err := appendRequest(nil, &verifier.Request{
		Project: "demo", Deployment: "echo", Key: []byte("kf_"), MinSeq: 258, Incarnation: events.Incarnation{0xab},
	})
	require.NoError(t, err)
	require.Equal(t, "0026"+"01"+"ab"+strings.Repeat("00", 15)+"0000000000000102"+"04"+"64656d6f"+"04"+"6563686f"+"6b665f", hex.EncodeToString(frame))
	out := appendAnswer(nil, &verifier.Answer{
		Decision: projections.Decision{Reason: projections.Allowed, Key: events.KeyID{0xcd}}, Seq: 258, Staleness: time.Second, Stale: true,
	})
	require.Equal(t, "001e"+"01"+"01"+"cd"+strings.Repeat("00", 15)+"0000000000000102"+"000003e8", hex.EncodeToString(out))
}

func TestTheLongestNames(t *testing.T) {
	c := dial(t, serve(t, echoing{}))
	longest := strings.Repeat("n", 255)
	a, err := c.Check(t.Context(), verifier.Request{Project: longest, Deployment: longest, Key: []byte{1}, MinSeq: 7})
	require.NoError(t, err)
	require.Equal(t, events.Seq(7), a.Seq)
	_, err = c.Check(t.Context(), verifier.Request{Project: longest + "n", Deployment: "d", Key: []byte{1}})
	require.ErrorContains(t, err, "does not fit")
}

func TestManyAtOnceGetTheirOwnAnswers(t *testing.T) {
	c := dial(t, serve(t, echoing{}))
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for j := range 200 {
				seq := events.Seq(i*1000 + j)
				a, err := c.Check(t.Context(), verifier.Request{Project: fmt.Sprint(i), Deployment: fmt.Sprint(j), Key: []byte{1}, MinSeq: seq})
				if err != nil || a.Seq != seq || !strings.HasPrefix(string(a.Key[:]), fmt.Sprint(j)) {
					t.Errorf("%d: %+v, %v", seq, a, err)
				}
			}
		})
	}
	all.Wait()
}

func TestWhatIsNoFrameEndsTheConnection(t *testing.T) {
	path := serve(t, echoing{})
	whole, err := appendRequest(nil, &verifier.Request{Project: "demo", Deployment: "echo", Key: []byte{1}})
	require.NoError(t, err)
	for name, sent := range map[string][]byte{
		"another version": bytes.Replace(whole, []byte{version}, []byte{2}, 1), "too long": {0xff, 0xff}, "empty": {0, 0}, "HTTP": []byte("GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 1<<14)),
		"a name beyond the end": append([]byte{0, fixedRequest + 2, version}, append(make([]byte, fixedRequest-1), 200, 'x')...),
	} {
		conn, err := net.Dial("unix", path)
		require.NoError(t, err)
		_, _ = conn.Write(sent)
		n, err := conn.Read(make([]byte, 64))
		require.Error(t, err, name)
		require.Zero(t, n, name)
		require.NoError(t, conn.Close())
	}
}

func TestHalfARequestHoldsUpNoAnswer(t *testing.T) {
	conn, err := net.Dial("unix", serve(t, echoing{}))
	require.NoError(t, err)
	defer conn.Close()
	one, err := appendRequest(nil, &verifier.Request{Project: "demo", Deployment: "echo", Key: []byte{1}})
	require.NoError(t, err)
	_, err = conn.Write(append(one, one[:10]...))
	require.NoError(t, err)
	heard := make([]byte, 2*(lengthSize+answerSize))
	n, err := conn.Read(heard)
	require.NoError(t, err)
	require.Equal(t, lengthSize+answerSize, n)
	_, err = conn.Write(one[10:])
	require.NoError(t, err)
	n, err = conn.Read(heard)
	require.NoError(t, err)
	require.Equal(t, lengthSize+answerSize, n)
}

func TestACallerThatDoesNotWait(t *testing.T) {
	c := dial(t, serve(t, echoing{}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Check(ctx, verifier.Request{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = c.Check(t.Context(), verifier.Request{Key: make([]byte, maxRequest)})
	require.ErrorContains(t, err, "does not fit")
	go func() { _ = c.Close() }()
	a, err := c.Check(t.Context(), verifier.Request{Key: []byte{1}}) // behind the one that hangs
	require.Error(t, err)
	require.False(t, a.Allowed())
	_, err = c.Check(t.Context(), verifier.Request{Key: []byte{1}})
	require.ErrorContains(t, err, "no more answers")
}

func TestAnAnswerToNothingEndsTheClient(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = conn.Write(appendAnswer(nil, &verifier.Answer{}))
		}
	}()
	c := dial(t, path)
	<-c.ended
	_, err = c.Check(t.Context(), verifier.Request{})
	require.Error(t, err)
}

func TestListenTakesAbandonedSocketsOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := Listen(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o660), info.Mode().Perm())
	_, err = Listen(path)
	require.ErrorContains(t, err, "already")
	unix, ok := first.(*net.UnixListener)
	require.True(t, ok)
	unix.SetUnlinkOnClose(false)
	require.NoError(t, first.Close()) // as after kill -9
	second, err := Listen(path)
	require.NoError(t, err)
	require.NoError(t, second.Close())
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	_, err = Listen(path)
	require.ErrorContains(t, err, "no socket")
}

func FuzzRequest(f *testing.F) {
	whole, err := appendRequest(nil, &verifier.Request{Project: "demo", Deployment: "echo", Key: []byte("k"), MinSeq: 3})
	require.NoError(f, err)
	f.Add(whole[lengthSize:])
	longest, err := appendRequest(nil, &verifier.Request{Project: strings.Repeat("n", 255), Key: []byte("k")})
	require.NoError(f, err)
	f.Add(longest[lengthSize:])
	f.Fuzz(func(t *testing.T, payload []byte) {
		var r verifier.Request
		var err error
		fuzztest.Frugally(t, len(payload), 0, func() { r, err = parseRequest(payload, &names{}) })
		if err != nil || len(payload) > maxRequest {
			return
		}
		again, err := appendRequest(nil, &r)
		require.NoError(t, err)
		require.Equal(t, payload, again[lengthSize:], "there is one way to say it")
	})
}

// allowing is a checker that costs nothing, so that a benchmark shows the protocol.
type allowing struct{}

func (allowing) Check(context.Context, verifier.Request) verifier.Answer {
	return verifier.Answer{Decision: projections.Decision{Reason: projections.Allowed, Key: events.KeyID{1}}}
}

// BenchmarkSocket asks over one connection, one request after another or with some under way.
func BenchmarkSocket(b *testing.B) {
	for _, underWay := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("pipelined=%d", underWay), func(b *testing.B) {
			conn, err := net.Dial("unix", serve(b, allowing{}))
			require.NoError(b, err)
			defer conn.Close()
			one, err := appendRequest(nil, &verifier.Request{Project: "demo", Deployment: "echo-model", Key: make([]byte, 52)})
			require.NoError(b, err)
			sent, heard := bytes.Repeat(one, underWay), make([]byte, underWay*(lengthSize+answerSize))
			for i := 0; i < b.N; i += underWay {
				_, err := conn.Write(sent)
				require.NoError(b, err)
				for n := 0; n < len(heard); {
					read, err := conn.Read(heard[n:])
					require.NoError(b, err)
					n += read
				}
			}
		})
	}
	b.Run("client=64", func(b *testing.B) {
		c := dial(b, serve(b, allowing{}))
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if a, err := c.Check(b.Context(), verifier.Request{Project: "demo", Deployment: "echo-model", Key: make([]byte, 52)}); err != nil || !a.Allowed() {
					b.Error(a, err)
				}
			}
		})
	})
}
