package steer

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/nearcast/nearcast/zones"
)

// markGrain is how much later an answer must be than the one on record, in milliseconds, to be put on record. Between that, workers
// only read: a record of what all of them do would otherwise go from core to core with every query. So a record is up to
// this much too early.
const markGrain = 10

// A history is when each region was last in an answer of each service. A keeper keeps it, over snapshots and reloads; any number of
// workers write it with each answer, and it depends on no choice and is part of none.
type history struct {
	began time.Time     // what marks count from; immutable, as all but the marks
	set   *zones.Set    // that the positions are of
	marks [][]*mark     // by Service.Index and position in Service.Members
	older [][]time.Time // the same: until when clients can hold answers from before a reload that took the TTL down; mostly zero
}

// A mark is when a region was last in an answer, by family: in milliseconds since the history began, plus markGrain; 0 if never.
type mark [families]atomic.Int64

func newHistory(set *zones.Set, now time.Time) *history {
	return (&history{began: now, set: &zones.Set{}}).carry(set)
}

// carry is the history for other zones, in which services and regions of the same names have the marks that they had.
func (h *history) carry(set *zones.Set) *history {
	type key struct{ service, region string }
	type held struct {
		mark  *mark
		older time.Time
		ttl   uint32
	}
	had := make(map[key]held)
	for i, svc := range h.set.Services {
		for j, m := range svc.Members {
			had[key{svc.Name, h.set.Regions[m.Region].Name}] = held{h.marks[i][j], h.older[i][j], svc.TTL}
		}
	}
	next := &history{began: h.began, set: set, marks: make([][]*mark, len(set.Services)), older: make([][]time.Time, len(set.Services))}
	for i, svc := range set.Services {
		next.marks[i], next.older[i] = make([]*mark, len(svc.Members)), make([]time.Time, len(svc.Members))
		for j, m := range svc.Members {
			was, ok := had[key{svc.Name, set.Regions[m.Region].Name}]
			if !ok {
				was.mark = new(mark)
			}
			next.marks[i][j], next.older[i][j] = was.mark, was.older
			if last := h.last(was.mark); was.ttl > svc.TTL && !last.IsZero() {
				next.older[i][j] = later(was.older, last.Add(seconds(was.ttl)))
			}
		}
	}
	return next
}

// tick is a time as marks have it.
func (h *history) tick(now time.Time) int64 { return now.Sub(h.began).Milliseconds() + markGrain }

// earliest is when the last answer in one family was given that is on record, at the earliest; zero if there is none.
func (h *history) earliest(at *atomic.Int64) time.Time {
	tick := at.Load()
	if tick == 0 {
		return time.Time{}
	}
	return h.began.Add(time.Duration(tick-markGrain) * time.Millisecond)
}

// last is when the last answer can have been given that is on record, at the latest; zero if there is none.
func (h *history) last(m *mark) (last time.Time) {
	for f := range m {
		if t := h.earliest(&m[f]); !t.IsZero() {
			last = later(last, t.Add(markGrain*time.Millisecond))
		}
	}
	return last
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

// Tick is the time of a batch of queries for Answered. It is 0, and nothing is put on record, where no keeper made the snapshot.
func (s *Snapshot) Tick(now time.Time) int64 {
	if s.history == nil {
		return 0
	}
	return s.history.tick(now)
}

// Answered puts on record that the regions of a pick, those that have records, were in an answer of a service. Any number of
// goroutines may call it; it neither allocates nor waits.
func (s *Snapshot) Answered(svc *zones.Service, p *Pick, tick int64) {
	if tick == 0 {
		return
	}
	marks := s.history.marks[svc.Index]
	for i, set := range p.Sets[:p.N] {
		if set != nil {
			raise(&marks[p.Members[i]][p.family], tick)
		}
	}
}

// raise makes a mark the tick, if that is later by markGrain or more. It never makes it earlier, whoever else does the same.
func raise(at *atomic.Int64, tick int64) {
	for {
		last := at.Load()
		if tick-last < markGrain || at.CompareAndSwap(last, tick) {
			return
		}
	}
}

// GoneAt is when the last client can still hold an answer with a region if none is given any more: the TTL after the last one, for
// the service that has this latest. What other directors answered is not on record here; others is when their last answer with the
// region can have been, zero if there are none. The result is zero if no answer ever had the region.
func (s *Snapshot) GoneAt(region string, others time.Time) (gone time.Time) {
	for i, svc := range s.Set.Services {
		j := s.member(svc, region)
		if j < 0 {
			continue
		}
		last := others
		if s.history != nil {
			last = later(last, s.history.last(s.history.marks[i][j]))
			gone = later(gone, s.history.older[i][j])
		}
		if !last.IsZero() {
			gone = later(gone, last.Add(seconds(svc.TTL)))
		}
	}
	return gone
}

// AnswersWith tells if a region may be in answers of some service, whatever orders say of it: it stands in where no other can answer.
func (s *Snapshot) AnswersWith(region string) bool {
	for _, svc := range s.Set.Services {
		j := s.member(svc, region)
		if j >= 0 && slices.ContainsFunc(asked(svc), func(f family) bool { return s.answersWith(svc, j, f) }) {
			return true
		}
	}
	return false
}
