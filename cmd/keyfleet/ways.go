package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfleet/keyfleet/verifier/extauthz"
	"github.com/keyfleet/keyfleet/verifier/socket"
)

// otherWays are how else than over HTTP a verifier may be asked.
type otherWays struct {
	socket   string
	extAuthz string

	socketAt, extAuthzAt net.Listener
}

func (o *otherWays) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.socket, "socket", "", "path of a Unix socket where checks are answered too, for sidecars")
	f.StringVar(&o.extAuthz, "ext-authz", "", "where Envoy's external authorization is answered, over gRPC, such as 127.0.0.1:8183")
}

// bind takes the addresses that were given.
func (o *otherWays) bind(stop *stopping) (err error) {
	if o.socket != "" {
		if o.socketAt, err = socket.Listen(o.socket); err != nil {
			return flagError("socket", "%v", err)
		}
		stop.then("socket", closing(o.socketAt))
	}
	if o.extAuthz != "" {
		if o.extAuthzAt, err = listen("ext-authz", o.extAuthz); err != nil {
			return err
		}
		stop.then("ext-authz address", closing(o.extAuthzAt))
	}
	return nil
}

// serve answers checks there.
func (o *otherWays) serve(stop *stopping, v *verifierParts) {
	if o.socketAt != nil {
		ctx, end := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := socket.Serve(ctx, o.socketAt, v.verifier); err != nil {
				v.fail(fmt.Errorf("checks over the socket: %w", err))
			}
		}()
		stop.then("checks over the socket", func() error { end(); <-done; return nil })
	}
	if o.extAuthzAt != nil {
		s := extauthz.NewServer(v.verifier, stop.log)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := s.Serve(o.extAuthzAt); err != nil {
				v.fail(fmt.Errorf("checks for Envoy: %w", err))
			}
		}()
		stop.log.Info("Envoy is answered, too", "ext_authz", o.extAuthzAt.Addr())
		stop.then("checks for Envoy", func() error {
			late := time.AfterFunc(drainTime, s.Stop)
			defer late.Stop()
			s.GracefulStop()
			<-done
			return nil
		})
	}
}
