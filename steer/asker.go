package steer

import (
	"net/netip"

	"github.com/nearcast/nearcast/geo"
	"github.com/nearcast/nearcast/zones"
)

// An Asker is whom a query comes from.
type Asker struct {
	Source netip.Addr
	Subnet netip.Prefix // of the client behind it, as it says (RFC 7871); not valid if it says of none
}

// A Client is the network that a service's answer is chosen for.
type Client struct {
	geo.Client
	asked netip.Addr // of which it is the network
	scope int        // the one to reply where the choice is by the source address; -1 where it is by the subnet: then it is the choice's
}

// For is the subnet if it says of a place and the service goes by it, else the source address. A subnet of length 0 says of none
// (RFC 7871, section 7.1.2), one in a special-purpose block neither: the source's answer then holds for that block.
func (a Asker) For(svc *zones.Service) Client {
	scope := 0
	if a.Subnet.Bits() > 0 && !svc.NoECS {
		c := geo.NewClient(a.Subnet.Addr(), a.Subnet.Bits())
		block, special := geo.Special(c.Addr)
		if !special || c.Bits < block {
			return Client{c, a.Subnet.Addr(), -1}
		}
		scope = block + c.Wrap
	}
	return Client{geo.NewClient(a.Source, a.Source.BitLen()), a.Source, scope}
}

// Scope is the scope to reply with a choice that holds for the widest prefix of bits bits. It may exceed the
// subnet's length: more bits would have given a better answer (RFC 7871, section 7.2.1).
func (c Client) Scope(bits int) int {
	if c.scope >= 0 {
		return c.scope
	}
	return min(bits+c.Wrap, c.asked.BitLen())
}
