package gateway

import (
	"net/http"
	"time"
)

// NewServer gives a server for a gateway: HTTP/1.1 and HTTP/2, the latter also without TLS for callers that know of it,
// with limits against callers that dawdle. Bodies and answers are paced by the gateway itself, since a stream may go on
// for hours.
func NewServer(gateway http.Handler) *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           gateway,
		Protocols:         protocols,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
}
