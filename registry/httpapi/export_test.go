package httpapi

import "github.com/keyfleet/keyfleet/registry"

// Route is what tests need to know of a route.
type Route struct {
	Method, Path string
	Role         registry.Role
}

// Routes are all that take an admin key.
func Routes() (all []Route) {
	for i := range routes {
		if r := &routes[i]; r.page == nil {
			all = append(all, Route{r.method, r.path, r.role})
		}
	}
	return all
}
