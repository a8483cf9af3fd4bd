package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A verdict is what clients had of a fault.
type verdict struct {
	fault
	answers    int           // from its begin until all was well again
	wrong      int           // that held the region at fault during the fault; where none is, that held another than the client's own
	lastWrong  time.Duration // after the begin
	changes    int           // of the region's clients between the region and another, at the director with the most
	strays     int           // with another region than their own, for clients of regions that are not at fault
	empty      int
	errors     int           // with another rcode than NOERROR
	unanswered int           // queries that no reply came to
	healed     time.Duration // after the end, when the last answer came that was not as before
	whole      time.Duration // after the end, until all directors heard all nodes again
}

// A machine on which this process was late by starved says nothing of nearcast: checks on it end by their timeout, and clients ask
// too seldom. A fault with a bad verdict is then done again, a few times, and what follows is done to a new world: in the old one
// endpoints may be held down for long, as they flapped.
const (
	starved    = 200 * time.Millisecond // less than the half of a check's timeout
	mostTrials = 3
)

// suffer does faults to worlds, one after the other, and tells what clients had of them.
func suffer(t *testing.T, bin string, faults []fault) (verdicts []verdict) {
	trial := 1
	for len(faults) > 0 && !t.Failed() {
		t.Run(faults[0].name, func(t *testing.T) {
			w := newWorld(t, bin)
			for busy := false; !busy && len(faults) > 0; {
				late := lateness()
				v := w.suffer(faults[0])
				problems, behind := v.judge(), late()
				t.Logf("this process was late by %v at most\n%s", behind, table([]verdict{v}))
				busy = behind >= starved
				if len(problems) > 0 && busy && trial < mostTrials {
					t.Logf("%s: again, the machine was busy: %v", v.name, problems)
					trial++
					continue
				}
				for _, p := range problems {
					t.Errorf("%s: %s", v.name, p)
				}
				verdicts, faults, trial = append(verdicts, v), faults[1:], 1
			}
		})
	}
	return verdicts
}

// lateness measures how late this process is woken at most, until it is asked.
func lateness() (most func() time.Duration) {
	const nap = 10 * time.Millisecond
	stop, done := make(chan struct{}), make(chan time.Duration)
	go func() {
		var worst time.Duration
		for !closed(stop) {
			asleep := time.Now()
			time.Sleep(nap)
			worst = max(worst, time.Since(asleep)-nap)
		}
		done <- worst
	}()
	return func() time.Duration { close(stop); return <-done }
}

// suffer does a fault to the world and tells what clients had of it.
func (w *world) suffer(f fault) verdict {
	w.t.Helper()
	if f.before != nil {
		f.before(w)
	}
	v := verdict{fault: f}
	mark, began := w.mark(), time.Now()
	f.begin(w)
	time.Sleep(time.Until(began.Add(f.stays)))
	late, ended := w.mark(), time.Now()
	f.end(w)
	v.waitWell(w, late, ended)
	of := slices.DeleteFunc(slices.Clone(w.since(mark)), func(a answer) bool { return a.at.Before(began) })
	slices.SortFunc(of, func(a, b answer) int { return a.at.Compare(b.at) })
	for _, a := range of {
		v.count(a, began, ended)
	}
	for d := range directors {
		v.changes = max(v.changes, changes(of, d, f.region))
	}
	return v
}

// waitWell returns when, for some time, all directors answered all clients as before the fault, and hear all nodes.
func (v *verdict) waitWell(w *world, mark int, ended time.Time) {
	w.t.Helper()
	heard := false
	w.until(v.name+": all is as before", func() bool {
		last := ended
		answered := map[[2]int]bool{}
		for _, a := range w.since(mark) {
			switch {
			case a.at.Before(ended):
			case a.err != nil || a.bad() != "" || a.region != a.client:
				if a.at.After(last) {
					last = a.at
				}
			default:
				answered[[2]int{a.director, a.client}] = true
			}
		}
		v.healed = last.Sub(ended)
		if !heard && w.wholeAtAll() {
			heard, v.whole = true, time.Since(ended)
		}
		return heard && len(answered) == directors*len(places) && time.Since(last) > calm
	})
}

func (w *world) wholeAtAll() bool {
	for d := range directors {
		if !w.whole(d) {
			return false
		}
	}
	return true
}

func (v *verdict) count(a answer, began, ended time.Time) {
	during := a.at.Before(ended)
	switch {
	case a.err != nil:
		if a.director+1 != v.mute {
			v.unanswered++
		}
		return
	case a.rcode != dns.RcodeSuccess:
		v.errors++
	case len(a.addrs) == 0:
		v.empty++
	case v.region == noRegion && a.region != a.client, a.client == v.region && a.region == v.region && during:
		v.wrong++
		v.lastWrong = max(v.lastWrong, a.at.Sub(began))
	case a.client != v.region && a.region != a.client && a.client+1 != v.beside:
		v.strays++
	}
	v.answers++
}

// mostChanges is out and back.
const mostChanges = 2

// steady is how many answers in a row make a state: fewer may have overtaken each other.
const steady = 3

// changes counts how often a director changed between answering a region's clients with it, as at first, and with another.
func changes(answers []answer, director, region int) (n int) {
	own, row := true, 0
	for _, a := range answers {
		if a.director != director || a.client != region || a.err != nil {
			continue
		}
		if a.region == region == own {
			row = 0
		} else if row++; row == steady {
			own, row = !own, 0
			n++
		}
	}
	return n
}

// judge says what breaks a promise.
func (v *verdict) judge() (problems []string) {
	fail := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if v.empty > 0 || v.errors > 0 || v.unanswered > 0 || v.strays > 0 {
		fail("%d empty answers, %d errors, %d queries without a reply, %d answers with another region than the client's, which is well",
			v.empty, v.errors, v.unanswered, v.strays)
	}
	if v.region == noRegion && v.wrong > 0 {
		fail("%d answers are not as before, the last after %v; none may change", v.wrong, v.lastWrong)
	}
	if v.out > 0 && v.lastWrong > v.out+slack {
		fail("its region was in the answers for %v, longer than %v", v.lastWrong, v.out)
	}
	if v.changes > mostChanges {
		fail("answers changed %d times, more than %d", v.changes, mostChanges)
	}
	if v.healed > boundHeal+slack {
		fail("answers were not as before for %v after its end, longer than %v", v.healed, boundHeal)
	}
	return problems
}

// table shows verdicts as Markdown.
func table(verdicts []verdict) string {
	var b strings.Builder
	b.WriteString("| fault | answers | wrong | last wrong after | bound | changes | strays | empty | errors | no reply | healed after | all nodes heard after |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
	for _, v := range verdicts {
		bound := seconds(v.out)
		if v.out == 0 {
			bound = "none"
			if v.region == noRegion {
				bound = "no change"
			}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %s | %s | %d | %d | %d | %d | %d | %s | %s |\n", v.name, v.answers, v.wrong, seconds(v.lastWrong), bound,
			v.changes, v.strays, v.empty, v.errors, v.unanswered, seconds(v.healed), seconds(v.whole))
	}
	return b.String()
}
