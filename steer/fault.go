package steer

import (
	"time"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

// The causes of a fault.
const (
	causeEndpoint    = "endpoint"    // its region's agents find that it does not work
	causeUnreachable = "unreachable" // agents of other regions do not reach it
	causeSilence     = "silence"     // no agent of the region is heard
	causeLeave       = "leave"       // its agents said that they leave
)

// A fault is a member of a service that evidence takes out of one family's answers.
type fault struct {
	member int
	region string
	began  healthmesh.Stamp // alike on every director; 0, before all others, if it is unknown
	at     time.Time        // the same by this node's clock; zero if it is unknown
	cause  string
}

// faultOf is the fault of a member that is down in a family: the first of when its region fell silent or left, and when the last of its
// endpoints failed, since whichever came first took it out.
func faultOf(svc *zones.Service, member int, region string, r *healthmesh.Region, f family) fault {
	m := svc.Members[member]
	failed, own := fault{member: member, region: region, cause: causeEndpoint}, has(m, f)
	up := false // of a service without a check, those that are not reported are not down
	for _, e := range endpoints(m) {
		if own && e.family != f {
			continue
		}
		end := r.Endpoints[healthmesh.ID(svc.Name, region, e.name)]
		up = up || end.State != healthmesh.Down
		if end.Since >= failed.began {
			failed.began, failed.at, failed.cause = end.Since, end.At, causeEndpoint
			if end.Unreachable() {
				failed.cause = causeUnreachable
			}
		}
	}
	if r.State != healthmesh.Down || !up && failed.began <= r.Fault {
		return failed
	}
	whole := fault{member, region, r.Fault, r.FaultAt, causeSilence}
	if r.Left() {
		whole.cause = causeLeave
	}
	return whole
}
