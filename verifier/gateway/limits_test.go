package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBodiesAreBounded(t *testing.T) {
	server, _ := serveAs(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }, Options{MaxBody: 1000})
	post := func(body io.Reader) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/echo/", body)
		require.NoError(t, err)
		r.Header.Set("X-Api-Key", "good")
		answer, err := server.Client().Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer.StatusCode
	}
	require.Equal(t, http.StatusOK, post(strings.NewReader(strings.Repeat("x", 1000))))
	require.Equal(t, http.StatusRequestEntityTooLarge, post(strings.NewReader(strings.Repeat("x", 1001))))
	announced := io.MultiReader(strings.NewReader(strings.Repeat("x", 1001))) // of no length that is known
	require.Equal(t, http.StatusRequestEntityTooLarge, post(announced))
}

// raw is a connection of its own to a gateway without TLS.
func raw(t *testing.T, upstream http.HandlerFunc, opts Options) net.Conn {
	t.Helper()
	server, f := serveAs(t, upstream, opts)
	server.Close() // only its upstream is wanted
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	opts.Project = "demo"
	plain := NewServer(New(f, opts))
	go func() { _ = plain.Serve(l) }()
	t.Cleanup(func() { _ = plain.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestABodyThatStopsComingEndsTheRequest(t *testing.T) {
	gone := make(chan struct{})
	c := raw(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			close(gone)
		}
	}, Options{BodyPause: 100 * time.Millisecond})
	_, err := fmt.Fprint(c, "POST /echo/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: good\r\nContent-Length: 10\r\n\r\nhalf")
	require.NoError(t, err)
	<-gone
}

func TestAnAnswerThatNobodyTakesIsCut(t *testing.T) {
	gone := make(chan struct{})
	c := raw(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				break
			}
		}
		close(gone)
	}, Options{BodyPause: 100 * time.Millisecond})
	_, err := fmt.Fprint(c, "GET /echo/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: good\r\n\r\n")
	require.NoError(t, err)
	<-gone
}

func TestQuietStreamsAreNotTakenForSlowCallers(t *testing.T) {
	const pause = 50 * time.Millisecond
	server, _ := serveAs(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
		_ = http.NewResponseController(w).Flush()
		time.Sleep(4 * pause) // a model that thinks
		_, _ = w.Write(body)
	}, Options{BodyPause: pause})
	for i, body := range []string{"", "hello", "", "hello"} {
		client := server.Client().Transport
		if i >= 2 {
			client = http1(t, server)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/echo/", strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("X-Api-Key", "good")
		answer, err := client.RoundTrip(r)
		require.NoError(t, err)
		said, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.Equal(t, body+body, string(said))
		require.NoError(t, answer.Body.Close())
	}
}

func TestASourceThatFailsTooOftenHears429(t *testing.T) {
	server, _ := serveAs(t, tellTale, Options{})
	statuses := map[int]int{}
	for i := 0; statuses[http.StatusTooManyRequests] < 3 && i < 2*failureBurst; i++ {
		begun := time.Now()
		answer := ask(t, server, "/echo/", "X-Api-Key", "bad")
		statuses[answer.StatusCode]++
		if answer.StatusCode == http.StatusTooManyRequests {
			require.Equal(t, "1", answer.Header.Get("Retry-After"))
			require.GreaterOrEqual(t, time.Since(begun), dawdleFor, "it leaves the machine to others")
		}
		require.NoError(t, answer.Body.Close())
	}
	require.GreaterOrEqual(t, statuses[http.StatusUnauthorized], failureBurst)
	require.Equal(t, 3, statuses[http.StatusTooManyRequests])
	require.Len(t, statuses, 2)
	require.Equal(t, http.StatusOK, ask(t, server, "/echo/").StatusCode, "who shares the source is not shut out")
}

func TestDawdlersAreBounded(t *testing.T) {
	f := newFailures()
	f.waits.Store(dawdlersAt)
	begun := time.Now()
	for range 100 {
		f.dawdle(t.Context())
	}
	require.Less(t, time.Since(begun), 100*dawdleFor)
	f.waits.Store(0)
	gone, leave := context.WithCancel(t.Context())
	leave()
	f.dawdle(gone)
	require.Zero(t, f.waits.Load())
}

func TestFailures(t *testing.T) {
	f, now := newFailures(), time.Now()
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for range failureBurst {
		require.Zero(t, f.add(one, now))
	}
	require.Equal(t, failureEvery, f.add(one, now))
	require.Equal(t, failureEvery, f.add(one, now), "what is not answered does not count")
	require.Zero(t, f.add(one, now.Add(failureEvery)), "it recovers")
	for i := range failureBurst {
		require.Zero(t, f.add(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)), now))
	}
	require.NotZero(t, f.add(other, now), "a caller has a whole network of IPv6")
	require.Equal(t, network(one), network(netip.MustParseAddr("::ffff:192.0.2.1")))
	require.Zero(t, f.add(netip.Addr{}, now), "no address is one, too")
}
