package healthmesh

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The bounds of orders.
const (
	maxOrders = 2*maxRegions + 1     // two for each region, and the freeze
	maxReason = 256                  // bytes of an order's reason: a line in a table
	maxOwner  = 128                  // bytes of an order's owner: user@host
	maxOrder  = 1000                 // bytes of an encoded order, so that it fits one packet with its age and signature
	maxOver   = 24 * time.Hour       // that a drain falls: what takes longer is no drain
	maxFor    = 366 * 24 * time.Hour // what is to last longer has no end
	maxAge    = 10 * maxFor          // the age of all that is older: each order with an end has ended by then
	steps     = 64                   // of a drain on its way to 1: each makes a new view and new answers
)

var errOrdersFull = fmt.Errorf("%d orders are in force already", maxOrders)

// A slot is what one order at most is held for: the state of a region, its shed, or the freeze.
type slot struct {
	region string // "" for the freeze
	shed   bool
}

func (o Order) slot() slot { return slot{o.Region, o.Kind == Shed} }

// takesBack says whether the order does nothing but end the one before it in its slot.
func (o Order) takesBack() bool { return o.Kind == None || o.Kind == Shed && o.Share == 0 }

// beats says whether o replaces p, and is the whole merge of orders. The columns are compared from the left, and the first in
// which the two differ decides; the larger wins:
//
//	At       later orders replace earlier ones: last writer wins
//	By       of two directors that gave one in the same tick of the clock
//	the rest never differs where directors are sane; with it, all nodes end with the same order whatever they are sent
//
// So it is the maximum of a total order, and does not depend on which message came first, how often, or by which way. Of the same
// order the ages are merged (meet).
func (o Order) beats(p Order) bool { return o.compare(p) > 0 }

// meet is an order of which two copies came that differ in nothing but their ages. One that a clock counted without a break since the order
// was given counts for more than one that went on over a restart by the wall clock, which may have jumped; else the larger does, since what
// one node saw end has ended everywhere. An age is never less than what was counted before the restart. It does not depend on which copy came
// first, or how often, either.
func (o Order) meet(p Order) Order {
	earlier := func(a, b time.Time) time.Time {
		if a.Before(b) {
			return a
		}
		return b
	}
	if p.guessed() && !o.guessed() {
		o, p = p, o
	}
	switch {
	case !o.guessed():
		o.Given = earlier(o.Given, p.Given)
	case p.guessed():
		o.Given, o.latest = earlier(o.Given, p.Given), earlier(o.latest, p.latest)
	default:
		o.Given, o.latest = earlier(p.Given, o.latest), time.Time{}
	}
	return o
}

// guessed says whether the age goes by a wall clock over a restart.
func (o Order) guessed() bool { return !o.latest.IsZero() }

// compare orders o and p by all but their ages.
func (o Order) compare(p Order) int {
	return cmp.Or(o.At.Compare(p.At), cmp.Compare(o.By, p.By), cmp.Compare(o.Kind, p.Kind), cmp.Compare(o.Share, p.Share),
		cmp.Compare(o.Over, p.Over), cmp.Compare(o.For, p.For), cmp.Compare(o.Owner, p.Owner), cmp.Compare(o.Reason, p.Reason))
}

// sameOrder says whether two orders, of which either may be nil, differ in nothing but their ages.
func sameOrder(a, b *Order) bool {
	return a == b || a != nil && b != nil && a.slot() == b.slot() && a.compare(*b) == 0
}

// age is the time since the order was given.
func (o Order) age(now time.Time) time.Duration { return min(max(now.Sub(o.Given), 0), maxAge) }

// inForce says whether the order has an effect at now.
func (o Order) inForce(now time.Time) bool {
	return !o.takesBack() && (o.For == 0 || o.age(now) < o.For)
}

// Until is when the order ends by itself, by this node's clock; zero if it is in force until it is taken back.
func (o Order) Until() time.Time {
	if o.For == 0 {
		return time.Time{}
	}
	return o.Given.Add(o.For)
}

// drained is how much a drain has taken at now.
func (o Order) drained(now time.Time) float64 {
	age := o.age(now)
	switch {
	case o.Kind != Drain:
		return 0
	case age >= o.Over:
		return 1
	}
	return math.Floor(steps*float64(age)/float64(o.Over)) / steps
}

// String says what the order does, for people: "drained at d1 by ann@host: kernel update, until 2026-03-01 12:00:00 UTC".
func (o Order) String() string {
	s := map[string]string{Drain: "drained", PinUp: "pinned up", PinDown: "pinned down", Freeze: "frozen", None: "taken back"}[o.Kind]
	if o.Kind == Shed {
		s = fmt.Sprintf("sheds %.4g %%", 100*o.Share)
	}
	if o.Over > 0 {
		s += " over " + o.Over.String()
	}
	s += " at " + o.By
	if o.Owner != "" {
		s += " by " + o.Owner
	}
	if o.Reason != "" {
		s += ": " + o.Reason
	}
	if until := o.Until(); !until.IsZero() {
		s += ", until " + until.UTC().Format("2006-01-02 15:04:05 MST")
	}
	return s
}

// Check says what is wrong with an order: its texts, numbers and times beyond their bounds.
func (o Order) Check() error {
	switch {
	case !slices.Contains([]string{Drain, PinUp, PinDown, Shed, Freeze, None}, o.Kind):
		return fmt.Errorf("order of kind %q, %q, %q, %q, %q, %q and %q are accepted", o.Kind, Drain, PinUp, PinDown, Shed, Freeze, None)
	case o.Kind == Freeze && o.Region != "":
		return fmt.Errorf("order to freeze for region %q, none is accepted", o.Region)
	case o.Kind != Freeze && !(o.Kind == None && o.Region == "") && !validName(o.Region, maxRegionName):
		return fmt.Errorf("order for region %q, a name of 1 to %d printable characters is accepted", o.Region, maxRegionName)
	case o.Kind != Shed && o.Share != 0 || !(o.Share >= 0 && o.Share <= 1):
		return fmt.Errorf("order of kind %q with share %v, 0 to 1 is accepted of a shed", o.Kind, o.Share)
	case o.Kind != Drain && o.Over != 0 || o.Over < 0 || o.Over > maxOver || o.For > 0 && o.Over > o.For:
		return fmt.Errorf("order of kind %q over %v for %v, 0 to %v is accepted of a drain, and no longer than it lasts", o.Kind, o.Over, o.For, maxOver)
	case o.takesBack() && o.For != 0 || o.For < 0 || o.For > maxFor:
		return fmt.Errorf("order of kind %q for %v, 0 (no end) to %v is accepted, and 0 of what takes back", o.Kind, o.For, maxFor)
	case !validName(o.By, maxName):
		return fmt.Errorf("order by %q, a name of 1 to %d printable characters is accepted", o.By, maxName)
	case !oneLine(o.Owner, maxOwner):
		return fmt.Errorf("order with owner %q, at most %d bytes of text on one line are accepted", o.Owner, maxOwner)
	case !oneLine(o.Reason, maxReason):
		return fmt.Errorf("order with reason %q, at most %d bytes of text on one line are accepted", o.Reason, maxReason)
	case !inCalendar(o.At):
		return fmt.Errorf("order at %v, years from 1970 to 9999 are accepted", o.At)
	}
	if n := len(o.encode()); n > maxOrder {
		return fmt.Errorf("order of %d bytes when it is encoded, at most %d are accepted: its texts are too long", n, maxOrder)
	}
	return nil
}

func inCalendar(t time.Time) bool { return t.Year() >= 1970 && t.Year() <= 9999 }

func oneLine(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// encode returns the order as JSON, the form in which it travels; its age goes beside it.
func (o Order) encode() []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false) // it would make six bytes of one
	if err := e.Encode(o); err != nil {
		panic(fmt.Errorf("order that was checked does not encode: %w", err)) // Check keeps times and numbers in range; all else is text
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})
}

func decodeOrder(b []byte) (Order, error) {
	if len(b) > maxOrder {
		return Order{}, fmt.Errorf("order of %d bytes, at most %d are accepted", len(b), maxOrder)
	}
	var o Order
	if err := json.Unmarshal(b, &o); err != nil {
		return Order{}, fmt.Errorf("order that is not JSON: %w", err)
	}
	o.At = o.At.Round(0).UTC()
	return o, o.Check()
}
