package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

// An OrderRequest is what a client of the API sends to give an order or to take one back.
type OrderRequest struct {
	Region string  `json:"region,omitempty"` // none to freeze, or with kind none to take that back
	Kind   string  `json:"kind"`             // of healthmesh.Order; a shed of 0 and none take back
	Share  float64 `json:"share,omitempty"`  // that a shed takes from the region, 0 to 1
	Over   string  `json:"over,omitempty"`   // a duration in which a drain falls; "" for at once
	For    string  `json:"for,omitempty"`    // a duration; "" for until taken back
	Owner  string  `json:"owner,omitempty"`  // who gives it; "" for the client's address
	Reason string  `json:"reason,omitempty"`
	Force  bool    `json:"force,omitempty"` // though the other regions cannot carry it
}

// An Order is an order as the API tells of it.
type Order struct {
	Region string     `json:"region,omitempty"`
	Kind   string     `json:"kind"`
	Share  float64    `json:"share,omitempty"`
	Over   string     `json:"over,omitempty"`
	Owner  string     `json:"owner,omitempty"`
	Reason string     `json:"reason,omitempty"`
	By     string     `json:"by"` // the director that took it
	At     time.Time  `json:"at"`
	Until  *time.Time `json:"until,omitempty"`   // when it ends by itself
	GoneAt *time.Time `json:"gone_at,omitempty"` // when the last client can still hold an answer with the region; of drains and pins down
	Note   string     `json:"note,omitempty"`    // what is not known of its effect; of an order that was just taken
}

// spreadTime is how long an order takes to hold at all directors.
const spreadTime = time.Second

// order takes an operator's order.
func (s *Server) order(w http.ResponseWriter, r *http.Request) {
	var q OrderRequest
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("the order is not the JSON that is accepted: %w", err))
		return
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		q.Owner = cmp.Or(q.Owner, host)
	}
	o, err := s.check(q)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	if err := bearable(s.o.Snapshot(), s.o.Mesh.View(), o, q.Force); err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), orderTimeout)
	defer cancel()
	if err := s.o.Mesh.Give(ctx, o); err != nil {
		if !errors.Is(err, healthmesh.ErrUnsaved) {
			err = fmt.Errorf("the order is not in force: %w", err)
		}
		fail(w, http.StatusInternalServerError, err)
		return
	}
	told := tell(&o, s.o.Snapshot(), time.Now())
	if takes(o) > 0 {
		told.Note = s.o.Snapshot().Unweighed(s.o.Mesh.View(), o.Region)
	}
	reply(w, http.StatusOK, told)
}

// check makes an order of a request.
func (s *Server) check(q OrderRequest) (o healthmesh.Order, err error) {
	now := time.Now()
	o = healthmesh.Order{Region: q.Region, Kind: q.Kind, Share: q.Share, Owner: q.Owner, Reason: q.Reason, By: s.o.Node, At: now, Given: now}
	var known []string
	for _, r := range s.o.Snapshot().Set.Regions {
		known = append(known, r.Name)
	}
	mesh := o.Kind == healthmesh.Freeze || o.Kind == healthmesh.None && o.Region == ""
	switch {
	case mesh && o.Region != "":
		return o, fmt.Errorf("region: %q, none is accepted of a freeze", q.Region)
	case !mesh && !slices.Contains(known, q.Region):
		return o, fmt.Errorf("region: %q is not one of %s", q.Region, strings.Join(known, ", "))
	}
	if o.Over, err = duration("over", q.Over); err != nil {
		return o, err
	}
	if o.For, err = duration("for", q.For); err != nil {
		return o, err
	}
	return o, o.Check()
}

func duration(key, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s: %q is not a duration above 0 such as 2h or 90m", key, text)
	}
	return d, nil
}

// bearable says what speaks against an order that takes clients from a region: too few regions would be left, force or not, or these
// could not carry them.
func bearable(s *steer.Snapshot, v *healthmesh.View, o healthmesh.Order, force bool) error {
	share := takes(o)
	if share == 1 {
		if err := s.MinActive(v, o.Region); err != nil {
			return err
		}
	}
	if force || share == 0 {
		return nil
	}
	if err := s.Carry(v, o.Region, share); err != nil {
		return fmt.Errorf("%w; it is taken all the same with force", err)
	}
	return nil
}

// takes is the part of a region's clients that an order takes from it in the end, 0 to 1.
func takes(o healthmesh.Order) float64 {
	switch o.Kind {
	case healthmesh.Shed:
		return o.Share
	case healthmesh.Drain, healthmesh.PinDown:
		return 1
	}
	return 0
}

// tell is an order as the API tells of it at now; nil of none.
func tell(o *healthmesh.Order, s *steer.Snapshot, now time.Time) *Order {
	if o == nil {
		return nil
	}
	out := &Order{Region: o.Region, Kind: o.Kind, Share: o.Share, Owner: o.Owner, Reason: o.Reason, By: o.By, At: o.At.Round(0).UTC()}
	if o.Over > 0 {
		out.Over = o.Over.String()
	}
	out.Until = wall(o.Until(), now)
	if o.Kind == healthmesh.Drain || o.Kind == healthmesh.PinDown {
		out.GoneAt = wall(goneAt(o, s, now), now)
	}
	return out
}

// goneAt is when the last client can still hold an answer with the region of an order that takes it out: the longest TTL after the last
// such answer, of this director by its record, of the others when they have the order and the drain is over, or now while the region
// is in the answers all the same. Zero if nothing answers with the region.
func goneAt(o *healthmesh.Order, s *steer.Snapshot, now time.Time) time.Time {
	others := o.Given.Add(o.Over + spreadTime)
	if now.After(others) && s.AnswersWith(o.Region) {
		others = now
	}
	return s.GoneAt(o.Region, others)
}

// wall is t by the wall clock as it is at now: what is left until t is right, whatever that clock did since the order was given.
// Nil if t is zero.
func wall(t, now time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = now.Round(0).UTC().Add(t.Sub(now))
	return &t
}
