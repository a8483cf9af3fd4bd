package healthmesh

import (
	"testing"
	"time"
)

// An agent that finds a later number under its name takes the next one if that is of an earlier life, which is silent now: its own memory
// was lost and its clock set back. If it is of a successor, it never does, however long it does not hear of it.
func TestSuccession(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration // from the start to the last report with the later number
		quiet time.Duration // since then
		takes bool
	}{
		{"an earlier life, silent for less than a lease", 0, 4 * time.Second, false},
		{"an earlier life", 0, 6 * time.Second, true},
		{"an earlier life's packet that was late", time.Second, 6 * time.Second, true},
		{"a successor, heard", time.Minute, time.Second, false},
		{"a successor, not heard", time.Minute, time.Hour / 2, false},
	} {
		o := Options{Name: "x", Role: roleAgent, Region: "a", Dir: t.TempDir()}
		if err := o.complete(); err != nil {
			t.Fatal(err)
		}
		core := newCore(o, memory{Incarnation: 5})
		core.status = &Status{}
		later := core.born.Add(c.after)
		core.table.apply(&part{report: report{Agent: "x", Region: "a", numbering: numbering{9, 1}, Parts: 1}, at: later}, anyone, later)
		core.succeed(later.Add(c.quiet))
		if takes := core.number.Incarnation == 10; takes != c.takes {
			t.Errorf("%s: incarnation %d", c.name, core.number.Incarnation)
		}
	}
}
