package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"

	"github.com/keyfleet/keyfleet/cmd/keyfleet/echomodel"
	"github.com/keyfleet/keyfleet/events/apikey"
	"github.com/keyfleet/keyfleet/events/eventlog"
	"github.com/keyfleet/keyfleet/registry"
)

const (
	systemActor  = "_dev"       // that dev itself is recorded under
	adminKeyName = "dev-admin"  // of the key in dev.json
	echoPath     = "/echo"      // by which an upstream is known for dev's own
	registerOnce = "dev:echo-1" // command id: a demo deployment that was removed stays removed
)

// openLog opens the log in a new directory. One in which anything has come of a log before must have it: then a
// stream that is missing is damage, which init would make worse.
func (d *devServer) openLog(ctx context.Context) error {
	for _, sign := range []string{"catalog", "verifier"} {
		if there, err := exists(filepath.Join(d.flags.data, sign)); there || err != nil {
			return err
		}
	}
	nc, err := d.connect("init")
	if err != nil {
		return err
	}
	defer nc.Close()
	opened, err := initLog(ctx, nc, d.signingKey(), eventlog.InitOptions{Actor: systemActor})
	if errors.Is(err, eventlog.ErrAlreadyOpen) {
		return nil // a first start that was interrupted
	}
	if err != nil {
		return err
	}
	d.stop.log.Info("log opened", "incarnation", opened.Incarnation, "signing_key", opened.SigningKey)
	return nil
}

func (d *devServer) signingKey() string { return filepath.Join(d.flags.data, "signing.pem") }

// setUpDemo has the echo model running, and the deployment echo-model lead to it.
func (d *devServer) setUpDemo(ctx context.Context) error {
	demo := commands{d.registry.service, defaultProject}
	err := demo.do(ctx, registry.DeploymentRegister, registry.Request{Name: echomodel.Model, CommandID: registerOnce}, nil)
	if err != nil && codeOf(err) != registry.NameTaken {
		return fmt.Errorf("register the demo deployment: %w", err)
	}
	var known registry.DeploymentReply
	err = demo.do(ctx, registry.DeploymentGet, registry.Request{Name: echomodel.Model}, &known)
	if codeOf(err) == registry.NotFound {
		d.stop.log.Info("the demo deployment was removed, and stays so")
		return nil
	}
	if err != nil {
		return err
	}
	port, ours := echoPort(known.Upstream)
	if !ours {
		return nil // somebody put a model of theirs behind the name
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil { // taken since the last run
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return fmt.Errorf("find an address for the demo model: %w", err)
	}
	serveHTTP(d.stop, "echo model", l, newServer(echomodel.New(echoPath)), d.stop.log, d.fail)
	upstream := urlOf(l) + echoPath
	if upstream == known.Upstream {
		return nil
	}
	return demo.do(ctx, registry.DeploymentEdit, registry.Request{Name: echomodel.Model, Upstream: &upstream}, nil)
}

// echoPort is where the echo model listened before, for an upstream that is still dev's own to set.
func echoPort(upstream string) (port string, ours bool) {
	if upstream == "" {
		return "0", true
	}
	u, err := url.Parse(upstream)
	if err != nil || u.Hostname() != "127.0.0.1" || u.Path != echoPath {
		return "", false
	}
	return u.Port(), true
}

// keepAdminKey has the secret of the admin key: the one of the last run if it still is the key's, else a new one.
func (d *devServer) keepAdminKey(ctx context.Context) error {
	admin := commands{d.registry.service, registry.AdminProject}
	var found registry.KeyReply
	err := admin.do(ctx, registry.KeyGet, registry.Request{Key: adminKeyName}, &found)
	if err != nil && codeOf(err) != registry.NotFound {
		return fmt.Errorf("look for the admin key: %w", err)
	}
	exists := err == nil
	if exists && admin.isSecretOf(ctx, d.adminKey, found.ID) {
		return nil
	}
	secret, none := apikey.Generate(), "0"
	verb, r := registry.KeyCreate, registry.Request{Digest: secret.Digest().String(), Hint: secret.Hint()}
	if exists {
		d.stop.log.Info("the admin key's secret was lost with dev.json: rotating it")
		verb, r.Key, r.Grace = registry.KeyRotate, adminKeyName, &none
	} else {
		description := "made by keyfleet dev; its secret is in dev.json"
		r.Name, r.Role, r.Scope, r.Description = adminKeyName, "owner", "*", &description
	}
	if err := admin.do(ctx, verb, r, nil); err != nil {
		return fmt.Errorf("make the admin key: %w", err)
	}
	d.adminKey = secret.Reveal()
	return nil
}

func (c commands) isSecretOf(ctx context.Context, text, id string) bool {
	secret, err := apikey.Parse(text)
	if err != nil {
		return false
	}
	var owner registry.KeyReply
	err = c.do(ctx, registry.KeyIdentify, registry.Request{Digest: secret.Digest().String()}, &owner)
	return err == nil && owner.ID == id
}

// commands are dev's own, in one project, with the registry in this process.
type commands struct {
	service *registry.Service
	project string
}

func (c commands) do(ctx context.Context, verb registry.Verb, r registry.Request, into any) error {
	reply, err := c.service.Do(ctx, registry.Command{Project: c.project, Actor: systemActor, Verb: verb, Request: r})
	if err != nil {
		return err
	}
	switch into := into.(type) {
	case *registry.KeyReply:
		if found, ok := reply.(*registry.KeyReply); ok {
			*into = *found
		}
	case *registry.DeploymentReply:
		if found, ok := reply.(*registry.DeploymentReply); ok {
			*into = *found
		}
	}
	return nil
}

func codeOf(err error) registry.Code {
	var r *registry.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}
