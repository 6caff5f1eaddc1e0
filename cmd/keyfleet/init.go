package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/registry"
)

func (a *app) initCommand() *cobra.Command {
	var keyPath string
	var replicas int
	cmd := &cobra.Command{
		Use:   "init --signing-key FILE",
		Short: "Create the log on a NATS server: once in its life",
		Long: `Creates the stream KEYFLEET_LOG and writes the event log_opened, which names the log's incarnation and the public half
of the key that signs its heads. The private half goes to --signing-key, with mode 0600: keep it, registries need it.

Never run init because a log is missing that was there before. A NATS server on the wrong directory, or with the
wrong encryption key, does not find its streams, and creating one under the same name destroys the old one's files.`,
		Example: `  keyfleet init --nats nats://127.0.0.1:4222 --signing-key keyfleet-signing.pem`,
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&keyPath, "signing-key", "", "file for the private signing key; one that exists is used, never overwritten (required)")
	cmd.Flags().IntVar(&replicas, "replicas", 1, "how many servers keep the log; 3 in production")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if keyPath == "" {
			return usageError("say with --signing-key where the private signing key is to be kept")
		}
		p, err := a.client.locate()
		if err != nil {
			return err
		}
		nc, err := a.client.connect(p)
		if err != nil {
			return err
		}
		defer nc.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), a.client.timeout)
		defer cancel()
		opened, err := initLog(ctx, nc, keyPath, eventlog.InitOptions{Replicas: replicas, Actor: p.Actor})
		if errors.Is(err, eventlog.ErrAlreadyOpen) {
			return refusedError(registry.Conflict, "%v", err)
		}
		if err != nil {
			return err
		}
		return a.show(opened, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "log opened\nincarnation  %s\nsigning key  %s (private half in %s)\n", opened.Incarnation, opened.SigningKey, keyPath)
			return err
		})
	}
	return a.asClient(cmd)
}

// openedLog is what init tells.
type openedLog struct {
	Incarnation events.Incarnation `json:"incarnation"`
	SigningKey  events.PublicKey   `json:"signing_key"`
	Stream      string             `json:"stream"`
}

// initLog creates the log. A signing key that is there already is taken: it is what an init that was
// interrupted has left. One that was made in vain is removed again.
func initLog(ctx context.Context, nc *nats.Conn, keyPath string, opts eventlog.InitOptions) (*openedLog, error) {
	public, made, err := signingKey(keyPath)
	if err != nil {
		return nil, err
	}
	opts.SigningKey = public
	at, err := eventlog.Init(ctx, nc, opts)
	if errors.Is(err, eventlog.ErrAlreadyOpen) && made {
		err = errors.Join(err, os.Remove(keyPath))
	}
	if err != nil {
		return nil, err
	}
	return &openedLog{at.Incarnation, public, eventlog.StreamName}, nil
}

const signingKeyBlock = "PRIVATE KEY" // PKCS #8, as openssl pkey reads it

// signingKey reads the key in the file, or makes one there.
func signingKey(path string) (public events.PublicKey, made bool, err error) {
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		public, err = makeSigningKey(path)
		return public, err == nil, err
	}
	if err != nil {
		return public, false, fmt.Errorf("read the signing key: %w", err)
	}
	block, _ := pem.Decode(body)
	if block == nil || block.Type != signingKeyBlock {
		return public, false, refusedError(registry.Invalid, "%s is no signing key (PEM, PKCS #8, Ed25519) and is left as it is; name another file", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return public, false, refusedError(registry.Invalid, "%s holds a key of another kind than Ed25519 and is left as it is; name another file", path)
	}
	return publicHalf(private), false, nil
}

// makeSigningKey has the key on disk before anything names it: a log whose signing key was lost in a crash could never
// prove its heads.
func makeSigningKey(path string) (events.PublicKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return events.PublicKey{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return events.PublicKey{}, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return events.PublicKey{}, fmt.Errorf("write the signing key: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: signingKeyBlock, Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return events.PublicKey{}, fmt.Errorf("write the signing key: %w", errors.Join(err, os.Remove(path)))
	}
	return publicHalf(private), nil
}

func publicHalf(private ed25519.PrivateKey) events.PublicKey {
	public, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		panic("an Ed25519 key without a public half")
	}
	return events.PublicKey(public)
}

// openForReading opens the log and tells the Seq at which it ends.
func openForReading(ctx context.Context, nc *nats.Conn, timeout time.Duration) (*eventlog.Log, events.Seq, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	log, err := eventlog.Open(ctx, nc, eventlog.Options{ReadOnly: true})
	if err != nil {
		return nil, 0, err
	}
	last, err := log.Last(ctx)
	if err != nil {
		return nil, 0, err
	}
	return log, last.Commit.Last(), nil
}
