package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keyfleet/keyfleet/loadtest/openloop"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/verifier"
	"github.com/keyfleet/keyfleet/verifier/socket"
)

const (
	statusAllowed = http.StatusOK
	statusRefused = http.StatusUnauthorized
	statusHeldOff = http.StatusTooManyRequests

	answerTimeout = 10 * time.Second // after which a caller gives up
)

// ask shows a key to a server and gives the status that it answers with, or what amounts to it.
type ask func(ctx context.Context, key string) (status int, err error)

// opener makes an ask for one caller. Its connection is closed when ctx ends.
type opener func(ctx context.Context) (ask, error)

// pick says which key a caller shows next.
type pick func() string

// picker gives each worker a choice of its own among the keys: some more popular than others, or all alike.
func (b *bench) picker(keys []string, worker int) pick {
	dice := rand.New(rand.NewPCG(1, uint64(worker)))
	if b.zipf == 0 {
		return func() string { return keys[dice.IntN(len(keys))] }
	}
	popular := rand.NewZipf(dice, b.zipf, 1, uint64(len(keys)-1))
	return func() string { return keys[popular.Uint64()] }
}

// asking makes an operation that fails unless the answer is as it should be.
func asking(how ask, which pick, want ...int) openloop.Operation {
	return func(ctx context.Context, _ int64) error {
		status, err := how(ctx, which())
		if err != nil {
			return err
		}
		for _, w := range want {
			if status == w {
				return nil
			}
		}
		return fmt.Errorf("answered %d", status)
	}
}

// showing opens callers who show some of the keys.
func (b *bench) showing(open opener, keys []string, want ...int) func(ctx context.Context, _ int) (openloop.Operation, error) {
	return func(ctx context.Context, worker int) (openloop.Operation, error) {
		how, err := open(ctx)
		return asking(how, b.picker(keys, worker), want...), err
	}
}

// httpCaller speaks just enough HTTP/1.1 to cost little beside the server. It is for one goroutine.
type httpCaller struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	head    int // length of what comes before the key
}

func dialHTTP(address, path string) (*httpCaller, error) {
	conn, err := net.DialTimeout("tcp", address, answerTimeout)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nX-Api-Key: ", path, address)
	return &httpCaller{conn: conn, in: bufio.NewReader(conn), request: head, head: len(head)}, nil
}

func (c *httpCaller) ask(_ context.Context, key string) (int, error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return 0, err
	}
	c.request = append(append(c.request[:c.head], key...), "\r\n\r\n"...)
	if _, err := c.conn.Write(c.request); err != nil {
		return 0, err
	}
	return c.read()
}

// read takes in an answer that says how long it is.
func (c *httpCaller) read() (status int, err error) {
	length := 0
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		name, value, _ := strings.Cut(text, ": ")
		switch {
		case first:
			_, rest, _ := strings.Cut(text, " ")
			status, err = strconv.Atoi(rest[:min(3, len(rest))])
		case text == "":
			_, err = c.in.Discard(length)
			return status, err
		case strings.EqualFold(name, "Content-Length"):
			length, err = strconv.Atoi(value)
		}
		if err != nil {
			return 0, err
		}
	}
}

// overHTTP has each worker ask on a connection of its own.
func overHTTP(address, path string) opener {
	return func(ctx context.Context) (ask, error) {
		c, err := dialHTTP(address, path)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = c.conn.Close() })
		return c.ask, nil
	}
}

const checkPath = "/v1/check/" + project + "/" + deployment

func overSocket(path string) opener {
	return func(ctx context.Context) (ask, error) {
		c, err := socket.Dial(path)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = c.Close() })
		return func(ctx context.Context, key string) (int, error) {
			a, err := c.Check(ctx, verifier.Request{Project: project, Deployment: deployment, Key: []byte(key)})
			return statusOf(a.Outcome), err
		}, nil
	}
}

func statusOf(outcome projections.Class) int {
	switch outcome {
	case projections.Pass:
		return statusAllowed
	case projections.Unauthenticated:
		return statusRefused
	case projections.Forbidden:
		return http.StatusForbidden
	default:
		return http.StatusServiceUnavailable
	}
}

// overExtAuthz asks as Envoy does.
func overExtAuthz(address string) opener {
	return func(ctx context.Context) (ask, error) {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		client := authv3.NewAuthorizationClient(conn)
		return func(ctx context.Context, key string) (int, error) {
			answer, err := client.Check(ctx, envoyRequest(key))
			if err != nil {
				return 0, err
			}
			if answer.GetOkResponse() != nil {
				return statusAllowed, nil
			}
			return int(answer.GetDeniedResponse().GetStatus().GetCode()), nil
		}, nil
	}
}

func envoyRequest(key string) *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"project": project, "deployment": deployment},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "POST", Path: "/v1/chat/completions", Host: "models.test", Headers: map[string]string{"x-api-key": key},
		}},
	}}
}
