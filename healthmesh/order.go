package healthmesh

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The bounds of orders.
const (
	maxOrders   = 1024                // one for each region
	maxReason   = 256                 // bytes of an order's reason, so that an order fits one packet
	maxOrder    = 1200                // bytes of an encoded order
	orderMemory = 30 * 24 * time.Hour // an order without effect is remembered for so long, so that a node that was away cannot bring back an older one
)

var errOrdersFull = fmt.Errorf("orders for %d regions are held already", maxOrders)

// beats says whether o replaces p: the later does, ties go by name. The rest only makes this a total order, so that
// all nodes end with the same one whatever they are sent.
func (o Order) beats(p Order) bool {
	return cmp.Or(o.At.Compare(p.At), cmp.Compare(o.By, p.By), cmp.Compare(o.Kind, p.Kind),
		o.Until.Compare(p.Until), cmp.Compare(o.Reason, p.Reason)) > 0
}

// inForce says whether the order has an effect at now, by the wall clock.
func (o Order) inForce(now time.Time) bool {
	return o.Kind != None && (o.Until.IsZero() || now.Before(o.Until))
}

// forgettable says whether the order has had no effect for so long that no node can still hold an older one.
func (o Order) forgettable(now time.Time) bool {
	end := o.At
	if o.Until.After(end) {
		end = o.Until
	}
	return !o.inForce(now) && now.Sub(end) > orderMemory
}

func (o Order) check() error {
	switch {
	case !validName(o.Region, maxRegionName):
		return fmt.Errorf("order for region %q, a name of 1 to %d printable characters is accepted", o.Region, maxRegionName)
	case o.Kind != Drain && o.Kind != None:
		return fmt.Errorf("order of kind %q, %q and %q are accepted", o.Kind, Drain, None)
	case !validName(o.By, maxName):
		return fmt.Errorf("order by %q, a name of 1 to %d printable characters is accepted", o.By, maxName)
	case len(o.Reason) > maxReason || !utf8.ValidString(o.Reason) || strings.ContainsFunc(o.Reason, unicode.IsControl):
		return fmt.Errorf("order with reason %q, at most %d bytes of text on one line are accepted", o.Reason, maxReason)
	case o.At.IsZero() || !inCalendar(o.At) || !o.Until.IsZero() && !inCalendar(o.Until):
		return fmt.Errorf("order at %v until %v, years from 1970 to 9999 are accepted", o.At, o.Until)
	}
	return nil
}

func inCalendar(t time.Time) bool { return t.Year() >= 1970 && t.Year() <= 9999 }

// normal makes o's times wall-clock UTC, the form in which they travel.
func (o Order) normal() Order {
	o.At = o.At.Round(0).UTC()
	if !o.Until.IsZero() {
		o.Until = o.Until.Round(0).UTC()
	}
	return o
}

// encode appends the order as JSON, the same form as on disk.
func (o Order) encode(b []byte) []byte {
	buf := bytes.NewBuffer(b)
	e := json.NewEncoder(buf)
	e.SetEscapeHTML(false) // it would make six bytes of one
	if err := e.Encode(o); err != nil {
		panic(fmt.Errorf("order that was checked does not encode: %w", err)) // check keeps the times in range; all else is text
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
	o = o.normal()
	return o, o.check()
}

// orders are the last orders by region. Owned by the mesh's goroutine.
type orders map[string]Order

// apply takes o if it beats the order that is held for its region.
func (all orders) apply(o Order, now time.Time) (verdict, error) {
	held, ok := all[o.Region]
	switch {
	case ok && !o.beats(held), o.forgettable(now):
		return known, nil
	case !ok && len(all) >= maxOrders:
		return refused, errOrdersFull
	}
	all[o.Region] = o
	return applied, nil
}

// give makes o a new order of this node: later than the one held, even where this node's clock is behind.
func (all orders) give(o Order, node string, now time.Time) (Order, error) {
	o.By = cmp.Or(o.By, node)
	o.At = now
	if held, ok := all[o.Region]; ok && !o.At.After(held.At) {
		o.At = held.At.Add(1)
	}
	o = o.normal()
	if err := o.check(); err != nil {
		return o, err
	}
	if o.Kind != None && !o.inForce(now) {
		return o, fmt.Errorf("order for region %s ends at %v, before it begins", o.Region, o.Until)
	}
	v, err := all.apply(o, now)
	if v == known {
		err = errors.New("order is older than the memory of orders")
	}
	return o, err
}

func (all orders) forget(now time.Time) {
	for region, o := range all {
		if o.forgettable(now) {
			delete(all, region)
		}
	}
}
