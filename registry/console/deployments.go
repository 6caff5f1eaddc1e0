package console

import (
	"net/http"
	"strconv"

	"github.com/keyfleet/keyfleet/registry"
)

func showDeployments(v *visit) error { return v.deployments(http.StatusOK) }

// deploymentList is one page of deployments.
type deploymentList struct {
	*registry.DeploymentPage
	Search                   string
	Name, Upstream, Host     string // as they were sent, where they have to be mended
	From, To, Previous, Next int    // Previous and Next are offsets; -1 for none
}

func (v *visit) deployments(status int) error {
	q := v.r.URL.Query()
	offset, _ := strconv.Atoi(q.Get("offset")) // what is no number is the beginning
	offset = max(0, offset)
	l := deploymentList{
		Search: q.Get("search"), Name: v.r.PostFormValue("name"), Upstream: v.r.PostFormValue("upstream"), Host: v.r.PostFormValue("host"),
		Previous: -1, Next: -1,
	}
	var err error
	l.DeploymentPage, err = ask[registry.DeploymentPage](v, registry.DeploymentList,
		registry.Request{Limit: pageSize, Offset: offset, Search: l.Search})
	if err != nil {
		return err
	}
	l.From, l.To = min(offset+1, l.Count), offset+len(l.Results)
	if offset > 0 {
		l.Previous = max(0, offset-pageSize)
	}
	if offset+pageSize < l.Count {
		l.Next = offset + pageSize
	}
	v.render(status, "deployments", "Deployments", &l)
	return nil
}

func registerDeployment(v *visit) error {
	made, err := ask[registry.DeploymentReply](v, registry.DeploymentRegister,
		registry.Request{Name: v.r.PostFormValue("name"), Upstream: v.text("upstream"), Host: v.text("host")})
	if v.mendable(err) {
		return v.deployments(http.StatusBadRequest)
	}
	if err != nil {
		return err
	}
	return v.leadTo(v.of("deployments", made.Name) + after("registered", made.Seq))
}

func showDeployment(v *visit) error { return v.deployment(http.StatusOK) }

func (v *visit) deployment(status int) error {
	d, err := ask[registry.DeploymentReply](v, registry.DeploymentGet, registry.Request{Name: v.name()})
	if err != nil {
		return err
	}
	v.render(status, "deployment", d.Name, d)
	return nil
}

func editDeployment(v *visit) error {
	edited, err := ask[registry.DeploymentReply](v, registry.DeploymentEdit,
		registry.Request{Name: v.name(), Upstream: v.text("upstream"), Host: v.text("host")})
	if v.mendable(err) {
		return v.deployment(http.StatusBadRequest)
	}
	if err != nil {
		return err
	}
	return v.leadTo(v.of("deployments", edited.Name) + after("saved", edited.Seq))
}

func removeDeployment(v *visit) error {
	gone, err := ask[registry.DeploymentReply](v, registry.DeploymentRemove, registry.Request{Name: v.name()})
	if err != nil {
		return err
	}
	return v.leadTo(v.of("deployments") + after("removed", gone.Seq))
}

func changeAttachment(verb registry.Verb, what string) func(*visit) error {
	return func(v *visit) error {
		changed, err := ask[registry.KeyReply](v, verb,
			registry.Request{Key: v.r.PostFormValue("key"), Deployments: &[]string{v.name()}})
		if v.mendable(err) {
			return v.deployment(http.StatusBadRequest)
		}
		if err != nil {
			return err
		}
		return v.leadTo(v.of("deployments", v.name()) + after(what, changed.Seq))
	}
}
