package healthmesh

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// A watch is one check that runs again and again, for all targets that have it. The checker's goroutine owns it.
type watch struct {
	check Check
	stop  context.CancelFunc
	users []*subject

	state    State
	reason   reason
	known    State // the last that was up or down
	towards  State // what the last results speak for, other than state
	opposing int   // how many, with none for the state between them
	unmade   int   // checks in a row that could not be made
	held     bool  // rise was reached, and the damper holds
	damper   damper
	unable   bool      // the check could not be made the last time
	counted  time.Time // when the last failure was over that counted; before it, when the watch was made
	abroad   bool      // it is of other regions than the agent's alone
	good     bool      // the last check succeeded
	cert     expiry
}

func newWatch(c Check) *watch {
	return &watch{check: c, damper: damper{least: c.HoldDown}, counted: time.Now()}
}

// ofRegion says whether it is of an endpoint of the region, and not only of others that an agent witnesses.
func (w *watch) ofRegion(name string) bool {
	return slices.ContainsFunc(w.users, func(s *subject) bool { return s.Region == name })
}

// A result is the outcome of one check.
type result struct {
	watch *watch
	outcome
	began   time.Time
	reached time.Time // checker.reached of its family, as it began
	at      time.Time // when it was over
}

// take counts a result, and says whether the state or the reason changed. The first decides at once, unless it is a failure in another
// region, which takes two at least; after it, as many in a row as fall or rise says, and for a rise the damper, too. Checks that could not
// be made are not in the row: they take nothing back.
func (w *watch) take(o outcome, now time.Time) (changed bool) {
	held := w.held
	if o.state == Down {
		w.damper.failed = now
		if held {
			w.damper.suppress(now)
			w.held = false
		}
	}
	if o.state == w.state {
		changed = (held || o.state == Unknown) && w.reason != o.why
		if changed {
			w.reason = o.why
		}
		w.held, w.unmade = false, 0
		if o.state != Unknown {
			w.opposing = 0
		}
		return changed
	}
	if w.count(o.state) < w.needed(o.state) {
		return false
	}
	if o.state == Up && w.known == Down && w.damper.held(now) {
		return w.hold(now)
	}
	if o.state == Down && w.known != Down {
		w.damper.fall(now)
	}
	w.state, w.reason, w.opposing, w.unmade, w.held = o.state, o.why, 0, 0, false
	if o.state != Unknown {
		w.known = o.state
	}
	return true
}

// count counts a result other than the state, and returns how many there are in a row.
func (w *watch) count(to State) int {
	if to == Unknown {
		w.unmade++
		return w.unmade
	}
	w.unmade = 0
	if to != w.towards {
		w.towards, w.opposing = to, 0
	}
	w.opposing++
	return w.opposing
}

// fallAbroad is the least number of failures that take an endpoint of another region down: one may be of the agent's own way.
const fallAbroad = 2

// needed is how many results in a row a change takes.
func (w *watch) needed(to State) int {
	switch {
	case to == Down && w.abroad:
		return max(w.check.Fall, fallAbroad)
	case w.known == Unknown:
		return 1
	case to == Up:
		return w.check.Rise
	}
	return w.check.Fall
}

// hold keeps an endpoint down that would be up. A first fall is no flapping: the reason of the fall stays.
func (w *watch) hold(now time.Time) (changed bool) {
	w.held = true
	flapping := reason{code: reasonFlapping}
	if changed = w.damper.flaps(now) && w.reason != flapping; changed {
		w.reason = flapping
	}
	return changed
}

// A subject is a target with the watches of its checks. The checker's goroutine owns it.
type subject struct {
	Target
	watches []*watch // in the order of Checks
	others  int      // how many of Checks are not for this agent

	state  State
	reason reason
	at     time.Time // when state became so
	known  State     // the last that was up or down
}

// combine is what the checks say together of an endpoint, where this agent makes n, others make the rest, and need of them all must
// succeed:
//
//	up                          down                       the endpoint is
//	need, or all n              any                        up
//	fewer                       more than all - need       down: need cannot be reached
//	fewer                       all - need or fewer        unknown: it depends on checks that are unknown, or not made here
//
// The reason is that of the first check that is as the endpoint is; of what depends on others alone there is none.
func (s *subject) combine() (State, reason) {
	var count [Down + 1]int
	var why [Down + 1]reason
	for _, w := range s.watches {
		if count[w.state] == 0 {
			why[w.state] = w.reason
		}
		count[w.state]++
	}
	all := len(s.watches) + s.others
	need := all
	if s.Need > 0 {
		need = min(s.Need, all)
	}
	switch {
	case count[Up] >= min(need, len(s.watches)):
		return Up, why[Up]
	case count[Down] > all-need:
		return Down, why[Down]
	}
	return Unknown, why[Unknown]
}

// checksOf are the checks of a target that this agent makes, and how many are not for it: programs are run in their own region alone.
func (o AgentOptions) checksOf(t Target) (all []Check, others int) {
	for _, c := range t.Checks {
		switch {
		case c.Type == "":
		case c.Type == checkExec && t.Region != o.Region:
			others++
		default:
			all = append(all, c)
		}
	}
	return all, others
}

// adoptTargets makes o's targets what is watched. Watches that it still has go on as they are.
func (a *checker) adoptTargets(ctx context.Context, o AgentOptions, now time.Time) {
	known, old := a.subjects, a.watches
	a.subjects, a.watches = make(map[EndpointID]*subject, len(o.Targets)+len(a.duties)), make(map[string]*watch, len(old))
	for _, w := range old {
		w.users = nil // a result on its way of one that is stopped speaks of nothing
	}
	reported := 0
	for _, t := range slices.Concat(o.Targets, a.duties) {
		checks, others := o.checksOf(t)
		if len(checks) == 0 && (t.Region != o.Region || !o.Backends.configured()) {
			continue
		}
		if reported >= maxEndpoints {
			o.Log.Error("endpoint is not reported, there are too many", "endpoint", t.Name, "most", maxEndpoints)
			continue
		}
		if reported++; len(checks) == 0 {
			continue // fleet.fill reports it
		}
		t.addr, _ = netip.ParseAddr(t.Endpoint) // invalid for a host name
		s := &subject{Target: t, others: others, at: now}
		if k := known[t.ID]; k != nil {
			s.state, s.reason, s.at, s.known = k.state, k.reason, k.at, k.known
		}
		for _, c := range checks {
			w := a.watchOf(ctx, s, c, old)
			s.watches, w.users = append(s.watches, w), append(w.users, s)
		}
		a.subjects[t.ID] = s
	}
	for _, w := range old {
		if len(w.users) == 0 {
			w.stop()
		}
	}
	a.recount(o.Region)
	for _, s := range a.subjects {
		a.update(s, now, o.Log, "")
	}
}

// watchOf is the watch of a subject's check: one that runs, or a new one. What is known of an endpoint stays, until
// a new check of it says otherwise.
func (a *checker) watchOf(ctx context.Context, s *subject, c Check, old map[string]*watch) *watch {
	key := s.key(c)
	w := cmp.Or(a.watches[key], old[key])
	if w == nil {
		w = newWatch(c)
		w.state, w.reason, w.known = s.state, s.reason, s.known
		a.start(ctx, w, newProbe(s.Target, c))
	}
	a.watches[key] = w
	return w
}

// start runs p for w until w is stopped.
func (a *checker) start(ctx context.Context, w *watch, p *probe) {
	ctx, w.stop = context.WithCancel(ctx)
	family := p.target.family()
	a.running.Go(func() {
		wait := rand.N(min(p.check.Interval, maxPhase))
		for sleep(ctx, wait) {
			select {
			case a.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			r := result{watch: w, began: time.Now(), reached: a.reached[family].get()}
			r.outcome = p.run(ctx)
			r.at = time.Now()
			<-a.slots
			select {
			case a.results <- r:
			case <-ctx.Done():
				return
			}
			wait = jitter(p.check.Interval) - time.Since(r.began)
		}
	})
}

// jitter is an interval, longer or shorter by at most a tenth.
func jitter(interval time.Duration) time.Duration {
	return interval - interval/10 + rand.N(interval/5)
}

// judge takes a result, and publishes what it changes.
func (a *checker) judge(r result) {
	w := r.watch
	if len(w.users) == 0 {
		return
	}
	before := *w
	var counts, changed, tell bool
	if r.outcome, counts = a.weigh(r); counts {
		changed = w.take(r.outcome, r.at)
		tell = a.noteFlaps(r, before.state, before.damper.suppressed)
	}
	a.noteUnable(r)
	a.noteSight(r)
	a.noteCertificate(r)
	if changed {
		for _, s := range w.users {
			tell = a.pass(s, r, &before) || tell
		}
	}
	if tell {
		a.tell()
	}
}

// pass takes a change of a watch to a subject of it, and says whether that changes.
func (a *checker) pass(s *subject, r result, before *watch) (changed bool) {
	if len(s.watches) == 1 {
		return a.update(s, r.at, a.o.Log, r.text)
	}
	if w := r.watch; w.state != before.state {
		a.o.Log.Log(context.Background(), levelOfChange(before.reason, w.reason, w.state == before.known), "check", withText(r.text, "endpoint", s.Name,
			"type", w.check.Type, "before", before.state.String(), "after", w.state.String(), "cause", w.reason.String())...)
	}
	return a.update(s, r.at, a.o.Log, "")
}

// withText adds what a program said, if it did.
func withText(text string, attrs ...any) []any {
	if text == "" {
		return attrs
	}
	return append(attrs, "text", text)
}

// update combines a subject's checks, and says whether anything changed.
func (a *checker) update(s *subject, now time.Time, log *slog.Logger, text string) (changed bool) {
	state, why := s.combine()
	if state != s.state {
		log.Log(context.Background(), levelOfChange(s.reason, why, state == s.known), "endpoint",
			withText(text, "endpoint", s.Name, "before", s.state.String(), "after", state.String(), "cause", why.String())...)
		s.at = now
	}
	changed = state != s.state || why != s.reason
	s.state, s.reason = state, why
	if state != Unknown {
		s.known = state
	}
	return changed
}

// levelOfChange is the level at which a change of state is logged, from one reason to another. That the agent is cut off, and that all
// is again as it was known before that, is told of all endpoints together (noteSight).
func levelOfChange(from, to reason, asKnown bool) slog.Level {
	if to.code == reasonCutOff || from.code == reasonCutOff && asKnown {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func (a *checker) endpoints() map[EndpointID]Endpoint {
	all := make(map[EndpointID]Endpoint, len(a.subjects))
	for id, s := range a.subjects {
		all[id] = Endpoint{State: s.state, Reason: s.reason.String(), At: s.at}
	}
	return all
}
