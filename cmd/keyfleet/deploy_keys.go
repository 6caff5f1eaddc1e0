package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// keyring holds the private keys of a deployment's operator and accounts, a file each. Running keyfleet deploy init
// again finds them there, so that a fleet can grow without new credentials for those who have some.
type keyring struct{ dir string }

// find gives the key of that name, which it makes where there is none.
func (k keyring) find(name string, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, error) {
	path := filepath.Join(k.dir, name+".nk")
	seed, err := os.ReadFile(path)
	if err == nil {
		return nkeys.FromSeed(seed)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	pair, err := create()
	if err != nil {
		return nil, err
	}
	if seed, err = pair.Seed(); err != nil {
		return nil, err
	}
	return pair, writeSecret(path, seed)
}

// account is an account whose users' credentials are written here.
type account struct {
	nkeys.KeyPair
	id string
}

func (k keyring) account(name string) (*account, error) {
	pair, err := k.find(name, nkeys.CreateAccount)
	if err != nil {
		return nil, err
	}
	id, err := pair.PublicKey()
	return &account{pair, id}, err
}

// issue writes the credentials of a user. A file that is there is left as it is.
func (a *account) issue(path, name string, may rights) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	id, err := user.PublicKey()
	if err != nil {
		return err
	}
	claims := jwt.NewUserClaims(id)
	claims.Name = name
	claims.Pub.Allow.Add(may.publish...)
	claims.Pub.Deny.Add(may.deny...)
	claims.Sub.Allow.Add(may.subscribe...)
	claims.Sub.Allow.Add(inboxOf(id) + ".>")
	if may.inboxes {
		claims.Sub.Allow.Add("_INBOX.>")
	}
	signed, err := claims.Encode(a)
	if err != nil {
		return fmt.Errorf("credentials of %s: %w", name, err)
	}
	seed, err := user.Seed()
	if err != nil {
		return err
	}
	file, err := jwt.FormatUserConfig(signed, seed)
	if err != nil {
		return err
	}
	return writeSecret(path, file)
}

// writeSecret replaces nothing, and is durable once it returns.
func writeSecret(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// signOperator finds what the operator says of itself, or signs it. It is signed once: a server that reloads its files refuses
// them if the operator's claims differ at all, be it in their date.
func (d *issuing) signOperator(id string) (string, error) {
	path := filepath.Join(d.keys.dir, "operator.jwt")
	if text, err := os.ReadFile(path); err == nil {
		known, err := jwt.DecodeOperatorClaims(string(text))
		if err == nil && known.Subject == id && known.SystemAccount == d.system.id {
			return string(text), nil
		}
	}
	claims := jwt.NewOperatorClaims(id)
	claims.Name, claims.SystemAccount = "keyfleet", d.system.id
	signed, err := claims.Encode(d.operator)
	if err != nil {
		return "", err
	}
	return signed, replace(path, []byte(signed))
}
