package gateway

import (
	"io"
	"net/http"
	"time"
)

// pacedBody is a request's body that has to go on within the pause. Without it a caller that sends a byte an hour holds a
// connection to the upstream.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	pause   time.Duration
}

func (b *pacedBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(b.pause)) // it fails where there is no connection, in tests
	n, err := b.ReadCloser.Read(p)
	_ = b.control.SetReadDeadline(time.Time{}) // upstreams may take their time
	return n, err
}

// pacedWriter is an answer whose reader has to take it within the pause. Between two tokens there is no such limit.
type pacedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	pause   time.Duration
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	defer w.pace()()
	return w.ResponseWriter.Write(p)
}

// FlushError is what the proxy calls after each piece of an answer.
func (w *pacedWriter) FlushError() error {
	defer w.pace()()
	return w.control.Flush()
}

func (w *pacedWriter) pace() (unhurried func()) {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.pause))
	return func() { _ = w.control.SetWriteDeadline(time.Time{}) }
}

// Unwrap lets the proxy take the connection over.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
