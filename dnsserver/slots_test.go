package dnsserver

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// There are so many slots in all and so many for each; what waits for its own bound holds nobody up.
func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(3, 2)
		try := func(who string) func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			give, err := s.take(ctx, who)
			if (err == nil) != (give != nil) {
				t.Fatal(err)
			}
			return give
		}
		a1, a2 := try("a"), try("a")
		if a1 == nil || a2 == nil || try("a") != nil {
			t.Fatal("not two for a")
		}
		b := try("b")
		if b == nil || try("c") != nil {
			t.Fatal("not three in all")
		}
		got := make(chan func())
		go func() { got <- try("c") }()
		synctest.Wait()
		a1()
		c := <-got
		if c == nil {
			t.Fatal("what was given back is not taken")
		}
		a2()
		b()
		c()
		if len(s.parties) != 0 || len(s.all) != 0 {
			t.Errorf("%d parties and %d slots left", len(s.parties), len(s.all))
		}
	})
}

// Of many warnings some are logged, and then how many more there were.
func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		tally := &tally{log: slog.New(slog.NewTextHandler(&log, nil))}
		for range 2 {
			for range tallyLines + 7 {
				tally.warn("a zone")
			}
			time.Sleep(tallyTime + time.Second)
		}
		if text := log.String(); strings.Count(text, "a zone") != 2*tallyLines || strings.Count(text, "number=7") != 2 {
			t.Error(text)
		}
	})
}
