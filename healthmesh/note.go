package healthmesh

import "time"

// What an agent logs of checks beside changes of state, each once.

const (
	certSoon  = 14 * 24 * time.Hour // until a certificate ends: it is worth a warning
	certAgain = 24 * time.Hour      // between warnings of one that still ends soon
	certPause = time.Hour           // at least between lines: servers of one endpoint may have several certificates
	lossPause = time.Minute         // at least between warnings of one family: where there is one endpoint, its flaps look like the agent's
)

// A loss is what was logged of a family of which no endpoint in another region is reached.
type loss struct {
	told time.Time // when; zero: never
	now  bool
}

// noteSight warns when what was known of endpoints of other regions gets lost, since none of their family is reached, and tells when one is
// again.
func (a *checker) noteSight(r result) {
	w := r.watch
	if !w.abroad {
		return
	}
	family := w.users[0].family()
	l := &a.lost[family]
	switch {
	case l.now && r.state == Up:
		a.o.Log.Info("endpoints of other regions are reached again", "family", familyNames[family])
		l.now = false
	case !l.now && r.why.code == reasonCutOff && w.known != Unknown && w.state == Unknown && (l.told.IsZero() || r.at.Sub(l.told) >= lossPause):
		a.o.Log.Warn("no endpoint of other regions is reached: this agent may be the one cut off, so nothing is said of them", "family", familyNames[family],
			"endpoint", w.users[0].Name, "text", r.text)
		*l = loss{r.at, true}
	}
}

// An expiry is what was logged of a watch's certificate.
type expiry struct {
	told time.Time // when; zero: never
	ends time.Time // what was said
	soon bool
}

// noteCertificate warns of a certificate that ends soon, and tells when it no longer does.
func (a *checker) noteCertificate(r result) {
	c := &r.watch.cert
	if r.ends.IsZero() || !c.told.IsZero() && r.at.Sub(c.told) < certPause {
		return
	}
	soon := r.ends.Before(r.at.Add(certSoon)) // by the wall clock, as certificates are
	again := !r.ends.Equal(c.ends) || r.at.Sub(c.told) >= certAgain
	switch {
	case soon && again:
		for _, s := range r.watch.users {
			a.o.Log.Warn("certificate ends soon", "endpoint", s.Name, "ends", r.ends, "left", r.ends.Sub(r.at).Round(time.Minute))
		}
	case !soon && c.soon:
		for _, s := range r.watch.users {
			a.o.Log.Info("certificate was renewed", "endpoint", s.Name, "ends", r.ends, "before", c.ends)
		}
	default:
		return
	}
	*c = expiry{r.at, r.ends, soon}
}

// noteUnable tells when a check can no longer be made, and why, and when it can be again.
func (a *checker) noteUnable(r result) {
	w := r.watch
	unable := r.why.code == reasonUnable
	if unable == w.unable {
		return
	}
	w.unable = unable
	for _, s := range w.users {
		if unable {
			a.o.Log.Error("check cannot be made, which says nothing of the endpoint", "endpoint", s.Name, "type", w.check.Type, "error", r.text)
		} else {
			a.o.Log.Info("check can be made again", "endpoint", s.Name, "type", w.check.Type)
		}
	}
}

// noteFlaps counts a flip that was suppressed, and tells when that begins and ends. before and flips are the watch's state and
// suppressed flips before the result. It says whether one was suppressed.
func (a *checker) noteFlaps(r result, before State, flips uint32) (suppressed bool) {
	w := r.watch
	switch {
	case w.damper.suppressed > flips:
		if w.ofRegion(a.o.Region) {
			a.suppressed++
		}
		if flips > 0 {
			return true
		}
		for _, s := range w.users {
			a.o.Log.Warn("endpoint flaps, it is held down", "endpoint", s.Name, "type", w.check.Type, "until_good_for", w.damper.hold)
		}
		return true
	case w.state == Up && before != Up && flips > 0:
		for _, s := range w.users {
			a.o.Log.Info("endpoint no longer flaps", "endpoint", s.Name, "type", w.check.Type, "suppressed", flips)
		}
		w.damper.suppressed = 0
	}
	return false
}
