package healthmesh

import "strings"

// unreachable begins the reason of an endpoint that witnesses find down.
const unreachable = "unreachable: "

// Unreachable tells if the endpoint is down because agents of other regions do not reach it.
func (e Endpoint) Unreachable() bool {
	return e.State == Down && strings.HasPrefix(e.Reason, unreachable)
}

// Left tells if the region is down because its agents said that they leave.
func (r *Region) Left() bool { return r.State == Down && r.Cause == causeLeft }
