// Package dnsserver owns bytes in and bytes out: sockets, parsing, EDNS, limits, and replies made from a
// snapshot. It knows nothing of how a snapshot came about.
package dnsserver

import (
	"net/netip"

	"github.com/nearcast/nearcast/steer"
)

// Transport is how a query came.
type Transport uint8

const (
	UDP Transport = iota
	TCP
)

// Answer is the trip of a query: it appends the reply to the query q from source to out and returns it, or nothing if the packet gets no reply.
// Every transport calls it, and it alone. meter may be nil.
func Answer(out, q []byte, source netip.Addr, t Transport, s *steer.Snapshot, meter *Meter) []byte {
	panic("contract")
}

// A Meter counts what one worker answered; it is written by that worker alone.
type Meter struct{}
