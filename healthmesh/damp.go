package healthmesh

import "time"

const (
	maxDamp   = 5 * time.Minute // the longest hold-down that falls grow to, unless the first is longer
	calmAfter = 5 * time.Minute // without a fall, after which a hold-down halves
)

// A damper grows the time that a check holds an endpoint down with each fall, and forgets falls with time.
type damper struct {
	least      time.Duration // Check.HoldDown
	hold       time.Duration // as the last fall left it; 0: none is known
	fell       time.Time     // the last fall, reported or suppressed; hold decays from there
	failed     time.Time     // the last failure
	suppressed uint32        // flips since the last rise
}

// decayed is what is left of the hold-down.
func (d *damper) decayed(now time.Time) time.Duration {
	return d.hold >> min(now.Sub(d.fell)/calmAfter, 62)
}

// fall takes a change to down.
func (d *damper) fall(now time.Time) {
	if left := d.decayed(now); left >= d.least {
		d.hold = min(2*left, max(maxDamp, d.least))
	} else {
		d.hold = d.least
	}
	d.fell = now
}

// suppress takes a fall of an endpoint that is held down: it is as restless as before.
func (d *damper) suppress(now time.Time) {
	d.hold, d.fell = max(d.decayed(now), d.least), now
	d.suppressed++
}

// held says whether an endpoint that fell must still show that it stays.
func (d *damper) held(now time.Time) bool {
	return d.hold > 0 && now.Sub(d.failed) < max(d.decayed(now), d.least)
}

// flaps says whether it fell more than once of late.
func (d *damper) flaps(now time.Time) bool { return d.suppressed > 0 || d.decayed(now) > d.least }
