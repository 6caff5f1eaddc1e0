package registry

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/keyfleet/keyfleet/events"
	"github.com/keyfleet/keyfleet/projections"
	"github.com/keyfleet/keyfleet/projections/catalog"
)

// query answers from what is durable, inside the self-lease of one term: what was read in one that is over may be
// older than what another registry has answered since.
func (s *Service) query(ctx context.Context, c *Command) (any, error) {
	l := s.leading.Load()
	if l == nil {
		return nil, errStandby
	}
	reply, err := s.read(ctx, c)
	if _, active := s.Active(); !active || s.leading.Load() != l {
		return nil, errStandby
	}
	return reply, err
}

// read answers from what is folded in.
func (s *Service) read(ctx context.Context, c *Command) (any, error) {
	if scans(c.Verb) {
		select {
		case s.scans <- struct{}{}:
			defer func() { <-s.scans }()
		case <-ctx.Done():
			return nil, errUnknown
		}
	}
	r := s.catalog.Read()
	reply, err := s.ask(ctx, r, c)
	var refusal *Refusal
	if err := errors.Join(err, r.Close()); err != nil && !errors.As(err, &refusal) {
		return nil, err
	}
	return reply, err
}

// maxScans is how many queries may walk over many records at a time, beside the one loop that decides.
const maxScans = 4

func scans(v Verb) bool {
	return v == KeyList || v == KeyHistory || v == DeploymentGet || v == DeploymentList
}

func (s *Service) ask(ctx context.Context, r *catalog.Reader, c *Command) (any, error) {
	now := s.dateNow()
	switch c.Verb {
	case KeyGet:
		k, err := findKey(r, c.Project, c.Request.Key)
		return replyKey(r, &k, now, err)
	case KeyIdentify:
		k, err := identify(r, c)
		return replyKey(r, &k, now, err)
	case KeyList:
		return listKeys(ctx, r, c, now)
	case KeyHistory:
		return s.keyHistory(ctx, r, c)
	case DeploymentGet:
		return getDeployment(ctx, r, c)
	case DeploymentList:
		return listDeployments(r, c)
	default:
		return listProjects(r, c)
	}
}

func replyKey(r *catalog.Reader, k *projections.Key, now events.Instant, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	view, err := viewUsedKey(r, k, now)
	return &KeyReply{KeyView: view}, err
}

func viewUsedKey(r *catalog.Reader, k *projections.Key, now events.Instant) (KeyView, error) {
	used, err := r.Usage(k.ID)
	if err != nil {
		return KeyView{}, err
	}
	return viewKey(r, k, used, now)
}

func identify(r *catalog.Reader, c *Command) (projections.Key, error) {
	digest, err := events.ParseDigest(c.Request.Digest)
	if err != nil {
		return projections.Key{}, refuseField("digest", "%v", err)
	}
	k, err := r.KeyWithDigest(digest)
	if err == nil && k.Project != c.Project {
		err = refuse(NotFound, "no living key of project %q has this digest; it may have been deleted, "+
			"or belong to another project", c.Project)
	}
	return k, err
}

// page is the part of a listing that was asked for.
type page struct {
	offset, limit int
	search        string
	descending    bool
	order         string
	seen          int // that match
}

const usualLimit, greatestLimit = 100, 1000

func pageOf(r *Request, orders ...string) (page, error) {
	p := page{offset: r.Offset, limit: r.Limit, search: strings.ToLower(r.Search)}
	if p.limit == 0 {
		p.limit = usualLimit
	}
	if p.limit < 1 || p.limit > greatestLimit {
		return p, refuseField("limit", "limit is 1 to %d, not %d", greatestLimit, p.limit)
	}
	if p.offset < 0 {
		return p, refuseField("offset", "offset is 0 or more, not %d", p.offset)
	}
	p.order, p.descending = strings.CutPrefix(r.OrderBy, "-")
	if p.order == "" {
		p.order = orders[0]
	}
	if !slices.Contains(orders, p.order) {
		return p, refuseField("order_by", "order_by is one of %s, with a - before it for the other way round",
			strings.Join(orders, ", "))
	}
	return p, nil
}

// take counts something and reports whether it is on the page.
func (p *page) take(texts ...string) bool {
	match := p.search == "" || slices.ContainsFunc(texts, func(t string) bool {
		return strings.Contains(strings.ToLower(t), p.search)
	})
	if !match {
		return false
	}
	p.seen++
	return p.seen > p.offset && p.seen <= p.offset+p.limit
}

// full reports whether nothing further can be on the page. Without a search, what follows need not be
// looked at: the project's own count tells how many there are.
func (p *page) full() bool { return p.search == "" && p.seen >= p.offset+p.limit }

func (p *page) count(all int) int {
	if p.search == "" {
		return all
	}
	return p.seen
}

func listKeys(ctx context.Context, r *catalog.Reader, c *Command, now events.Instant) (any, error) {
	p, err := pageOf(&c.Request, "name", "created_at", "expires_at")
	if err != nil {
		return nil, err
	}
	order := map[string]catalog.Order{"name": catalog.ByName, "created_at": catalog.ByCreated, "expires_at": catalog.ByExpiry}[p.order]
	list := &KeyPage{Results: []KeyView{}, Seq: r.Position.Seq}
	show := func(k *projections.Key) error {
		view, err := viewUsedKey(r, k, now)
		list.Results = append(list.Results, view)
		return err
	}
	if p.search != "" {
		return list, searchKeys(ctx, r, c, &p, order, list, show)
	}
	err = r.Keys(c.Project, order, p.descending, p.offset, func(k *projections.Key) (bool, error) {
		err := show(k)
		return len(list.Results) < p.limit, err
	})
	if err != nil {
		return nil, err
	}
	project, err := r.Project(c.Project)
	list.Count = project.Keys
	return list, err
}

// searchKeys shows those on the page of the keys that match, and counts all of them.
func searchKeys(ctx context.Context, r *catalog.Reader, c *Command, p *page, order catalog.Order, list *KeyPage, show func(*projections.Key) error) error {
	ids, err := r.Search(c.Project, p.search, order, p.descending, ctx.Err)
	if err != nil {
		return err
	}
	list.Count = len(ids)
	from := min(p.offset, len(ids))
	for _, id := range ids[from:min(from+p.limit, len(ids))] {
		k, err := r.Key(id)
		if err != nil {
			return err
		}
		if err := show(&k); err != nil {
			return err
		}
	}
	return nil
}

func getDeployment(ctx context.Context, r *catalog.Reader, c *Command) (any, error) {
	d, err := findDeployment(r, c.Project, c.Request.Name)
	if err != nil {
		return nil, err
	}
	view := viewDeployment(&d)
	n := 0
	err = r.Attached(d.ID, func(id events.KeyID) (bool, error) {
		if n++; n > greatestLimit {
			return true, ctx.Err()
		}
		k, err := r.Key(id)
		view.Keys = append(view.Keys, k.Name)
		return true, err
	})
	slices.Sort(view.Keys)
	view.KeyCount = &n
	return &DeploymentReply{DeploymentView: view}, err
}

func listDeployments(r *catalog.Reader, c *Command) (any, error) {
	p, err := pageOf(&c.Request, "name")
	if err != nil {
		return nil, err
	}
	list := &DeploymentPage{Results: []DeploymentView{}, Seq: r.Position.Seq}
	err = r.Deployments(c.Project, p.descending, func(d *projections.Deployment) (bool, error) {
		if p.take(d.Name, d.Host, d.Upstream) {
			list.Results = append(list.Results, viewDeployment(d))
		}
		return !p.full(), nil
	})
	if err != nil {
		return nil, err
	}
	project, err := r.Project(c.Project)
	list.Count = p.count(project.Deployments)
	return list, err
}

// listProjects shows only the project itself to actors of a project: the permission that let
// them in is one for that project. Actors of the system's own project see all.
func listProjects(r *catalog.Reader, c *Command) (any, error) {
	p, err := pageOf(&c.Request, "name")
	if err != nil {
		return nil, err
	}
	all, err := r.Projects()
	if err != nil {
		return nil, err
	}
	if p.descending {
		slices.Reverse(all)
	}
	list := &ProjectPage{Results: []ProjectView{}, Seq: r.Position.Seq}
	for _, project := range all {
		visible := project.Name == c.Project || c.Project == AdminProject
		if visible && p.take(project.Name) {
			list.Results = append(list.Results, ProjectView{
				Name: project.Name, CreatedAt: project.OpenedAt, Keys: project.Keys, Deployments: project.Deployments,
			})
		}
	}
	list.Count = p.seen
	return list, nil
}
