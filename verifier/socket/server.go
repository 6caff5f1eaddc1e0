package socket

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/keyfleet/keyfleet/verifier"
)

// Checker decides.
type Checker interface {
	Check(context.Context, verifier.Request) verifier.Answer
}

// Listen makes a socket that its owner and group may use. It takes the place of one that nobody listens at any longer.
func Listen(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if c, dialed := net.Dial("unix", path); dialed == nil {
			_ = c.Close()
			return nil, fmt.Errorf("something listens at %s already", path)
		}
		if info, statErr := os.Lstat(path); statErr != nil || info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("%s is there, and is no socket", path)
		}
		if err = os.Remove(path); err == nil {
			l, err = net.Listen("unix", path)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // G302: sidecars are in the group
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// bufferSize has room for a few hundred pipelined requests.
const bufferSize = 64 << 10

// Serve answers on every connection of l until ctx ends, and returns nil then.
func Serve(ctx context.Context, l net.Listener, c Checker) error {
	var connections sync.WaitGroup
	defer connections.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE): // until some connection ends
			time.Sleep(10 * time.Millisecond)
			continue
		case err != nil:
			return err
		}
		connections.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			answer(ctx, conn, c)
			_ = conn.Close()
		})
	}
}

// answer answers until the caller leaves or sends what is no frame. Answers go out together once there is no further
// request that could be answered at once.
func answer(ctx context.Context, conn io.ReadWriter, c Checker) {
	in := bufio.NewReaderSize(conn, bufferSize)
	var names names
	var out []byte
	for {
		frame, err := nextFrame(in)
		if err != nil {
			return
		}
		request, err := parseRequest(frame[lengthSize:], &names)
		if err != nil {
			return
		}
		if request.MinSeq > 0 && len(out) > 0 { // it may wait
			if _, err := conn.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		a := c.Check(ctx, request)
		out = appendAnswer(out, &a)
		_, _ = in.Discard(len(frame)) // it was there to be peeked at
		if !hasFrame(in) || len(out) >= bufferSize/2 {
			if _, err := conn.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
	}
}

// nextFrame waits for one, and leaves it in the buffer.
func nextFrame(in *bufio.Reader) ([]byte, error) {
	length, err := in.Peek(lengthSize)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(length))
	if size > maxRequest {
		return nil, errMalformed
	}
	return in.Peek(lengthSize + size)
}

// hasFrame reports whether nextFrame need not wait.
func hasFrame(in *bufio.Reader) bool {
	if in.Buffered() < lengthSize {
		return false
	}
	length, err := in.Peek(lengthSize)
	return err == nil && in.Buffered() >= lengthSize+int(binary.BigEndian.Uint16(length))
}
