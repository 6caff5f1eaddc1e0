package httpapi

import (
	"github.com/keyfleet/keyfleet/registry"
)

// keyBody is what a create and a change may carry. Null clears.
type keyBody struct {
	Name            field[string]   `json:"name"`
	Description     field[string]   `json:"description"`
	ExpiresAt       field[string]   `json:"expires_at"`
	DeploymentNames field[[]string] `json:"deployment_names"`
}

func (b *keyBody) request() (registry.Request, error) {
	r := registry.Request{
		Name: b.Name.value, Description: b.Description.or(""), ExpiresAt: b.ExpiresAt.or("never"),
		Deployments: b.DeploymentNames.or([]string{}),
	}
	if b.Name.sent && r.Name == "" {
		return r, invalid("name", "a key has a name: leave name out, or give another one")
	}
	return r, nil
}

type createBody struct {
	keyBody
	Digest string `json:"digest"`
	Hint   string `json:"hint"`
	Role   string `json:"role"`  // of an admin key
	Scope  string `json:"scope"` // of an admin key
}

func createKey(c *call, b *createBody) (any, error) {
	r, err := b.request()
	if err != nil {
		return nil, err
	}
	r.Digest, r.Hint, r.Role, r.Scope = b.Digest, b.Hint, b.Role, b.Scope
	return c.do(registry.KeyCreate, r)
}

func editKey(c *call, b *keyBody) (any, error) {
	r, err := b.request()
	if err != nil {
		return nil, err
	}
	r.Key = c.name
	return c.do(registry.KeyEdit, r)
}

type rotateBody struct {
	Grace  field[string] `json:"grace"`
	Digest string        `json:"digest"`
	Hint   string        `json:"hint"`
}

func rotateKey(c *call, b *rotateBody) (any, error) {
	r := registry.Request{Key: c.name, Digest: b.Digest, Hint: b.Hint}
	if b.Grace.sent && !b.Grace.null {
		r.Grace = &b.Grace.value
	}
	return c.do(registry.KeyRotate, r)
}

// onKey carries out a command that needs nothing but the key.
func onKey(verb registry.Verb) func(*call) (any, error) {
	return func(c *call) (any, error) { return c.do(verb, registry.Request{Key: c.name}) }
}

func listKeys(c *call) (any, error) {
	r, err := c.page("order_by", "search")
	if err != nil {
		return nil, err
	}
	return c.look(registry.KeyList, r)
}

func getKey(c *call) (any, error) {
	if err := c.checkQuery(); err != nil {
		return nil, err
	}
	return c.look(registry.KeyGet, registry.Request{Key: c.name})
}

func keyEvents(c *call) (any, error) {
	r, err := c.page()
	if err != nil {
		return nil, err
	}
	r.Key = c.name
	return c.look(registry.KeyHistory, r)
}

type identifyBody struct {
	Digest string `json:"digest"`
}

func identifyKey(c *call, b *identifyBody) (any, error) {
	if err := c.checkQuery(); err != nil {
		return nil, err
	}
	return c.look(registry.KeyIdentify, registry.Request{Digest: b.Digest})
}
