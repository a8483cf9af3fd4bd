package dnsserver

import (
	"container/list"
	"net/netip"
)

// The bounds of a crowd (RFC 7766, section 6.2).
const (
	maxConns       = 1000 // of one listener: each holds some 10 KiB, with TLS some 20, maxKept octets, and a file
	maxClientConns = 100  // of one client network: one resolver's share of maxConns
)

// A crowd is the connections of one listener, by client network: an IPv4 address, or an IPv6 /64.
//
//   - A network has at most maxClientConns; one more is refused, and costs nobody a place.
//   - All have at most maxConns. For one more the network that has the most loses its oldest; of those that have as many, the
//     one that has had so many for the longest. So who has many addresses takes places from nobody who has fewer
//     connections than each of these, whatever goes over them; and who has but one keeps it until each of the
//     others is of another network, and newer. Whose connection is closed asks on another (RFC 7766, section 6.2.4).
//   - What a balancer hands on is of no network until its header tells the client: all of these count as one, which has
//     no share of its own.
//
// Each step takes the same time, however many there are. Guarded by the listener's mutex.
type crowd struct {
	shares map[netip.Prefix]*share
	having [maxConns + 2]list.List // networks, by how many connections they have; the last one is there for a moment
	most   int                     // no network has more
	size   int
}

// A share is a network's part of a crowd.
type share struct {
	client netip.Prefix
	conns  list.List     // of *tcpConn, the oldest first
	place  *list.Element // in the crowd's having
}

// noClient is what is not known yet.
var noClient netip.Prefix

// clientNetwork is what one client can have all addresses of: an IPv4 address, or an IPv6 /64.
func clientNetwork(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // no address: the peer has gone
		return noClient
	}
	return p
}

// add takes a connection in, and returns the one that has to go for it, if one has to. It reports false if the client has its
// share.
func (w *crowd) add(c *tcpConn, client netip.Prefix) (gone *tcpConn, ok bool) {
	n := w.shares[client]
	if n == nil {
		n = &share{client: client}
	}
	if client != noClient && n.conns.Len() >= maxClientConns {
		return nil, false
	}
	c.share, c.place = n, n.conns.PushBack(c)
	w.size++
	w.move(n, n.conns.Len()-1)
	if w.size > maxConns {
		largest := w.having[w.most].Front().Value.(*share)
		gone = largest.conns.Front().Value.(*tcpConn)
		w.remove(gone)
	}
	return gone, true
}

// remove takes a connection out, if it is in.
func (w *crowd) remove(c *tcpConn) {
	n := c.share
	if n == nil {
		return
	}
	n.conns.Remove(c.place)
	c.share, c.place = nil, nil
	w.size--
	w.move(n, n.conns.Len()+1)
}

// move puts a network, which had was connections, where it belongs now.
func (w *crowd) move(n *share, was int) {
	if was > 0 {
		w.having[was].Remove(n.place)
	}
	now := n.conns.Len()
	if now == 0 {
		delete(w.shares, n.client)
	} else {
		w.shares[n.client] = n
		n.place = w.having[now].PushBack(n)
	}
	w.most = max(w.most, now)
	for w.most > 0 && w.having[w.most].Len() == 0 { // one step: a network loses one at a time
		w.most--
	}
}

// each calls f with every connection.
func (w *crowd) each(f func(c *tcpConn)) {
	for _, n := range w.shares {
		for e := n.conns.Front(); e != nil; e = e.Next() {
			f(e.Value.(*tcpConn))
		}
	}
}
