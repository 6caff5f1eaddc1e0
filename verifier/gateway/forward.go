package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/keyfleet/keyfleet/verifier/httpcheck"
)

// newProxy forwards requests whose context has a passage.
func newProxy(log *slog.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      newTransport(),
		FlushInterval:  -1, // tokens are read as they are made
		BufferPool:     &buffers{},
		ModifyResponse: tidy,
		ErrorHandler:   func(w http.ResponseWriter, r *http.Request, err error) { complain(w, r, err, log) },
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// newTransport keeps connections to upstreams. An answer may be long in the making, so that only callers' patience
// bounds it.
func newTransport() http.RoundTripper {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{
		DialContext:         dialThenCheck(dialer.DialContext),
		ForceAttemptHTTP2:   true,
		DisableCompression:  true, // what the caller did not ask for would have to be undone
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second,
	}
}

// tidy makes an upstream's answer the gateway's.
func tidy(answer *http.Response) error {
	answer.Header.Del(httpcheck.RequestIDHeader) // it has one already
	openToBrowsers(answer.Header, answer.Request)
	return nil
}

type dial func(ctx context.Context, network, address string) (net.Conn, error)

// dialThenCheck checks a request once more that had to wait for a connection: its key may have been revoked meanwhile.
func dialThenCheck(d dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if p := passageOf(ctx); p != nil {
			err = p.recheck(ctx)
		}
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	}
}

// rewrite makes the request that goes to the upstream: to its URL, without the key, with what Keyfleet says of the key
// and nothing that only looks like it.
func rewrite(r *httputil.ProxyRequest) {
	p := passageOf(r.In.Context())
	plain, _ := url.PathUnescape(p.path) // it parsed before, in climbs
	r.Out.URL.Path, r.Out.URL.RawPath = plain, p.path
	r.SetURL(p.upstream)
	r.SetXForwarded()
	for name := range r.Out.Header {
		if looksOurs(name) {
			delete(r.Out.Header, name)
		}
	}
	if !strings.EqualFold(r.Out.Header.Get("Upgrade"), "websocket") {
		r.Out.Header.Del("Upgrade") // to h2c above all: in such a tunnel requests would pass unchecked
		r.Out.Header.Del("Connection")
	}
	r.Out.Header.Del(httpcheck.KeyHeader)
	r.Out.Header.Del("Authorization")
	r.Out.Header.Set(httpcheck.KeyIDHeader, p.answer.Key.String())
	r.Out.Header.Set(httpcheck.ProjectHeader, p.answer.Project)
	r.Out.Header.Set("X-Request-Id", p.requestID)
}

// looksOurs takes an underscore for a dash: many servers do.
func looksOurs(name string) bool {
	const ours = "keyfleet-"
	return len(name) >= len(ours) && strings.EqualFold(strings.ReplaceAll(name[:len(ours)], "_", "-"), ours)
}

// complain answers a request that could not be forwarded. What went wrong is told to operators alone.
func complain(w http.ResponseWriter, r *http.Request, err error, log *slog.Logger) {
	openToBrowsers(w.Header(), r)
	var cut *cutError
	var large *http.MaxBytesError
	p := passageOf(r.Context())
	switch {
	case errors.As(err, &cut), errors.As(context.Cause(r.Context()), &cut):
		httpcheck.Refuse(w, cut.answer)
	case errors.As(err, &large):
		tooLarge(w)
	case r.Context().Err() != nil: // the caller is gone
		httpcheck.Complain(w, http.StatusBadGateway, "canceled", "The caller did not wait for the answer.")
	default:
		log.WarnContext(r.Context(), "upstream did not answer", "deployment", p.ask.Deployment, "error", err, "request_id", p.requestID)
		httpcheck.Complain(w, http.StatusBadGateway, "upstream_unreachable", "The deployment's upstream did not answer. Try again shortly.")
	}
}

// buffers are those that answers are copied through.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) Get() []byte {
	if kept, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return kept[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(used []byte) { b.pool.Put((*[bufferSize]byte)(used)) }
