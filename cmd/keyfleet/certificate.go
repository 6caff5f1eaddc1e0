package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateFiles are where a certificate and its key are.
type certificateFiles struct{ cert, key string }

// certificate is what is in the files, as they are now.
type certificate struct {
	files certificateFiles
	log   *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	written [2]time.Time // when the files were that were last tried
	told    string       // what was last said to be wrong
}

func readCertificate(files certificateFiles, log *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, log: log}
	return c, c.refresh()
}

// get is asked at every handshake, which costs far more than a look at two files. Files that are half written are tried
// again once they are whole.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(); err != nil && err.Error() != c.told {
		c.told = err.Error()
		c.log.Warn("the certificate cannot be read: the one before stays", "error", err)
	}
	return c.current, nil
}

func (c *certificate) refresh() error {
	cert, err := os.Stat(c.files.cert)
	key, keyErr := os.Stat(c.files.key)
	if err := errors.Join(err, keyErr); err != nil {
		return err
	}
	written := [2]time.Time{cert.ModTime(), key.ModTime()}
	if written == c.written {
		return nil
	}
	c.written = written
	read, err := tls.LoadX509KeyPair(c.files.cert, c.files.key)
	if err != nil {
		return err
	}
	c.current, c.told = &read, ""
	return nil
}
