package dnsserver

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// slots bound how many do something at once: all together, and with one party, so that one that is slow or dead does not
// hold them all. Who waits is served in order.
type slots struct {
	all     chan struct{}
	each    int
	mu      sync.Mutex // guards parties
	parties map[string]*party
}

type party struct {
	slots chan struct{}
	users int // that hold a slot or wait for one
}

func newSlots(all, each int) *slots {
	return &slots{all: make(chan struct{}, all), each: each, parties: map[string]*party{}}
}

// take waits for a slot; give gives it back. It is an error if ctx ends before.
func (s *slots) take(ctx context.Context, who string) (give func(), err error) {
	s.mu.Lock()
	p := s.parties[who]
	if p == nil {
		p = &party{slots: make(chan struct{}, s.each)}
		s.parties[who] = p
	}
	p.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.users--; p.users == 0 {
			delete(s.parties, who)
		}
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
	select {
	case s.all <- struct{}{}:
	case <-ctx.Done():
		<-p.slots
		leave()
		return nil, ctx.Err()
	}
	return func() { <-s.all; <-p.slots; leave() }, nil
}

// The bounds of a tally.
const (
	tallyLines = 10 // in tallyTime
	tallyTime  = 1 * time.Minute
)

// A tally logs what may happen to any number of zones at once: some of it, and how much more there was.
type tally struct {
	log  *slog.Logger
	mu   sync.Mutex // guards what follows
	said int        // since the first of this time
}

func (t *tally) warn(message string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.said == 0 {
		time.AfterFunc(tallyTime, t.sum)
	}
	if t.said++; t.said <= tallyLines {
		t.log.Warn(message, args...)
	}
}

// sum tells how much was left out, and begins anew.
func (t *tally) sum() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if more := t.said - tallyLines; more > 0 {
		t.log.Warn("more warnings of zones and their servers were left out", "number", more)
	}
	t.said = 0
}
