package steer

import (
	"slices"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/zones"
)

// batchTime is how long after a swap a batch of queries that began before it can still be answered: a batch takes a millisecond or so,
// and a goroutine that is ready does not wait a second for its turn on a machine that can serve at all.
const batchTime = time.Second

// maxDepartures is the most departures that are waited for: those of a second. Each snapshot has one for a region and cause at most.
const maxDepartures = 256

// A Departure is one region that evidence took out of the answers of services, and how long it took to.
type Departure struct {
	Region   string
	Services []string
	Cause    string // "endpoint", "unreachable", "silence", "leave"
	// Lag is from the time that the first report of the fault states, of a silence or leave the last report before it, to the last
	// answer of this director that still held the region; 0 if there was none after the fault. Of several services it is the
	// longest. It is right to 10 ms.
	Lag time.Duration

	swapped time.Time
	members []departed
}

// departed is one member that departed, in one family.
type departed struct {
	service *zones.Service
	member  int
	family  family
	fault   time.Time
}

// A stopwatch measures departures. The last answer with a region is known only once the batches that began with the snapshot before have
// ended, so it waits for batchTime. Owned by the keeper's goroutine.
type stopwatch struct {
	pending []*Departure // the earliest first
	timer   *time.Timer  // runs while there are any
	tell    func(*Departure)
}

func newStopwatch(tell func(*Departure)) *stopwatch {
	w := &stopwatch{timer: time.NewTimer(0), tell: tell}
	w.timer.Stop()
	return w
}

// swap is told of a snapshot that is about to replace another; was and is are the views that they were made from. What departs by a
// reload does not count, nor in the moment of one.
func (w *stopwatch) swap(before, after *Snapshot, was, is *healthmesh.View, now time.Time) {
	w.settle(before, func(d *Departure) bool { return before.Survey != after.Survey || after.hasAny(d) })
	if before.Survey != after.Survey {
		return
	}
	for _, d := range departures(before, after, was, is) {
		d.swapped = now
		w.pending = append(w.pending, d)
	}
	over := len(w.pending) - maxDepartures
	w.settle(before, func(*Departure) bool { over--; return over >= 0 })
}

// due settles what has waited for long enough.
func (w *stopwatch) due(s *Snapshot, now time.Time) {
	w.settle(s, func(d *Departure) bool { return now.Sub(d.swapped) >= batchTime })
}

// settle tells of the departures that are ripe; s is the snapshot in use.
func (w *stopwatch) settle(s *Snapshot, ripe func(*Departure) bool) {
	w.pending = slices.DeleteFunc(w.pending, func(d *Departure) bool {
		if !ripe(d) {
			return false
		}
		for _, m := range d.members {
			d.Lag = max(d.Lag, s.history.earliest(&s.history.marks[m.service.Index][m.member][m.family]).Sub(m.fault))
		}
		w.tell(d)
		return true
	})
	w.timer.Stop()
	if len(w.pending) > 0 {
		w.timer.Reset(time.Until(w.pending[0].swapped.Add(batchTime)))
	}
}

// departures are the regions that evidence took out between two snapshots of one survey. It knows of none whose fault it cannot date,
// and of none that an order kept in until now: that is the order's time.
func departures(before, after *Snapshot, was, is *healthmesh.View) (all []*Departure) {
	for i, svc := range after.Set.Services {
		for j, m := range svc.Members {
			for f := range families {
				if after.beliefs[i][j].state[f] != Down || after.answersWith(svc, j, f) || !before.answersWith(svc, j, f) || !has(m, f) {
					continue
				}
				region := after.regionName(svc, uint16(j))
				if r := is.Regions[region]; r != nil && !keptByOrder(was, region) {
					all = depart(all, svc, f, faultOf(svc, j, region, r, f))
				}
			}
		}
	}
	return all
}

// depart adds a fault to the departure of its region and cause.
func depart(all []*Departure, svc *zones.Service, f family, one fault) []*Departure {
	if one.at.IsZero() {
		return all
	}
	i := slices.IndexFunc(all, func(d *Departure) bool { return d.Region == one.region && d.Cause == one.cause })
	if i < 0 {
		i, all = len(all), append(all, &Departure{Region: one.region, Cause: one.cause})
	}
	d := all[i]
	d.members = append(d.members, departed{svc, one.member, f, one.at})
	if n := len(d.Services); n == 0 || d.Services[n-1] != svc.Name { // service by service
		d.Services = append(d.Services, svc.Name)
	}
	return all
}

// keptByOrder tells if an order kept a region in the answers whatever evidence said.
func keptByOrder(v *healthmesh.View, region string) bool {
	r := v.Regions[region]
	return v.Freeze != nil || r != nil && isKind(r.Order, healthmesh.PinUp)
}

// answersWith tells if a member may be in a family's answers.
func (s *Snapshot) answersWith(svc *zones.Service, j int, f family) bool {
	c := s.faces[svc.Index][f].choices[0].chain // whichever: all are of one tier
	state := s.beliefs[svc.Index][j].state[f]
	return c.failOpen || state == c.tier || state == Held
}

// hasAny tells if a member that departed is back.
func (s *Snapshot) hasAny(d *Departure) bool {
	return slices.ContainsFunc(d.members, func(m departed) bool { return s.answersWith(m.service, m.member, m.family) })
}
