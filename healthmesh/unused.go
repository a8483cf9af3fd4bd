package healthmesh

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// unused is why a node takes a message, or a part of one, for nothing.
type unused uint8

const (
	notUnderstood unused = iota // garbage, a later version, numbers out of range
	notGenuine                  // not signed by who may say so
	outOfBounds                 // more than is held, or one number in two forms
	outOfDate                   // of an earlier life of its agent: late, or a replay
	unusedReasons = iota
)

// unusedPause is the least time between two lines with one reason: whoever can send one such message can send many.
const unusedPause = time.Minute

// A register counts what was not taken by reason, and when each was logged last. Its times are the mesh's goroutine's.
type register struct {
	n      [unusedReasons]atomic.Uint64
	logged [unusedReasons]time.Time
}

// refuse counts what is not taken, and logs the first of each minute.
func (c *core) refuse(why unused, text string, args ...any) {
	n := c.unused.n[why].Add(1)
	now := time.Now()
	if last := c.unused.logged[why]; !last.IsZero() && now.Sub(last) < unusedPause {
		return
	}
	c.unused.logged[why] = now
	level := slog.LevelWarn
	if why == outOfDate { // some come late after every restart
		level = slog.LevelInfo
	}
	c.o.Log.Log(context.Background(), level, text, append(args, "so_far", n)...)
}
