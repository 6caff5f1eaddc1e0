package httpapi

import (
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/keyfleet/keyfleet/registry"
)

// deploymentBody is where a deployment's requests go. Null clears.
type deploymentBody struct {
	Upstream field[string] `json:"upstream"`
	Host     field[string] `json:"host"`
}

type registerBody struct {
	deploymentBody
	Name string `json:"name"`
}

type changeBody struct {
	deploymentBody
	APIKeys field[[]string] `json:"api_keys"` // all that are to open it, by name or id
}

func listDeployments(c *call) (any, error) {
	r, err := c.page("order_by", "search")
	if err != nil {
		return nil, err
	}
	return c.look(registry.DeploymentList, r)
}

func getDeployment(c *call) (any, error) {
	if err := c.checkQuery(); err != nil {
		return nil, err
	}
	return c.look(registry.DeploymentGet, registry.Request{Name: c.name})
}

func registerDeployment(c *call, b *registerBody) (any, error) {
	return c.do(registry.DeploymentRegister, registry.Request{Name: b.Name, Upstream: b.Upstream.or(""), Host: b.Host.or("")})
}

func removeDeployment(c *call) (any, error) {
	return c.do(registry.DeploymentRemove, registry.Request{Name: c.name})
}

// editDeployment changes where requests go, which is an owner's to say, and which keys are attached, which is not.
func editDeployment(c *call, b *changeBody) (any, error) {
	if b.Upstream.sent || b.Host.sent {
		if err := c.need(registry.Owner); err != nil {
			return nil, err
		}
	}
	edited, err := c.do(registry.DeploymentEdit, registry.Request{Name: c.name, Upstream: b.Upstream.or(""), Host: b.Host.or("")})
	if err != nil || !b.APIKeys.sent {
		return edited, err
	}
	was, ok := edited.(*registry.DeploymentReply)
	if !ok {
		return nil, errors.New("a deployment's reply is none")
	}
	return setKeys(c, was, b.APIKeys.value)
}

// maxAttachments is how many keys a deployment shows, and so how many can be set at once.
const (
	maxAttachments = 1000
	atATime        = 64
)

// setKeys has those keys attached to a deployment that are named, and no others. It is a command for each key that differs:
// what fails half-way is finished by the same call again.
func setKeys(c *call, edited *registry.DeploymentReply, names []string) (any, error) {
	wanted, err := c.keysNamed(names)
	if err != nil {
		return nil, err
	}
	have, err := c.deployment()
	if err != nil {
		return nil, err
	}
	if *have.KeyCount > maxAttachments {
		return nil, invalid("api_keys", "the deployment has %d keys, too many to be set at once: change deployment_names of keys instead", *have.KeyCount)
	}
	var g errgroup.Group
	g.SetLimit(atATime)
	changes := make(chan *registry.KeyReply, len(wanted)+len(have.Keys))
	change := func(verb registry.Verb, key string) {
		g.Go(func() error {
			reply, err := c.changeAttachment(verb, key, have.ID)
			if err == nil {
				changes <- reply
			}
			return err
		})
	}
	for _, key := range wanted {
		if !slices.Contains(have.Keys, key) {
			change(registry.KeyAttach, key)
		}
	}
	for _, key := range have.Keys {
		if !slices.Contains(wanted, key) {
			change(registry.KeyDetach, key)
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	close(changes)
	now, err := c.deployment()
	if err != nil {
		return nil, err
	}
	now.Answer = edited.Answer
	now.Seq = max(now.Seq, edited.Seq)
	for reply := range changes {
		if reply.Seq > now.Seq {
			now.Seq, now.Confirmation = reply.Seq, reply.Confirmation
		}
	}
	return now, nil
}

func (c *call) deployment() (*registry.DeploymentReply, error) {
	reply, err := c.service.Do(c.r.Context(), c.addressed(registry.DeploymentGet, registry.Request{Name: c.name}))
	if err != nil {
		return nil, err
	}
	d, ok := reply.(*registry.DeploymentReply)
	if !ok || d.KeyCount == nil {
		return nil, errors.New("a deployment's reply is none")
	}
	return d, nil
}

// keysNamed finds the names of keys that may be given by their ids, so that nothing is changed if one is not there.
func (c *call) keysNamed(given []string) ([]string, error) {
	if len(given) > maxAttachments {
		return nil, invalid("api_keys", "at most %d keys can be set at once, not %d", maxAttachments, len(given))
	}
	names := make([]string, 0, len(given))
	for _, name := range given {
		reply, err := c.service.Do(c.r.Context(), c.addressed(registry.KeyGet, registry.Request{Key: name}))
		if err != nil {
			return nil, err
		}
		if k, ok := reply.(*registry.KeyReply); ok && !slices.Contains(names, k.Name) {
			names = append(names, k.Name)
		}
	}
	return names, nil
}

// changeAttachment needs no command id: to attach or detach twice is to do it once.
func (c *call) changeAttachment(verb registry.Verb, key, deployment string) (*registry.KeyReply, error) {
	q := c.r.URL.Query()
	r := registry.Request{Key: key, Deployments: &[]string{deployment}, Wait: q.Get("wait"), WaitTimeout: q.Get("wait_timeout")}
	reply, err := c.service.Do(c.r.Context(), c.addressed(verb, r))
	if err != nil {
		return nil, err
	}
	k, ok := reply.(*registry.KeyReply)
	if !ok {
		return nil, errors.New("a key's reply is none")
	}
	return k, nil
}
