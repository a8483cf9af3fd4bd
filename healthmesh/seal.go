package healthmesh

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A seal is a list of orders as one director sends it: what it holds, how old each is, and its signature over both. Whoever takes it
// takes the word of that director, which may be another one than gave the orders.
//
//	count (2 bytes), then each: age in milliseconds (8 bytes, the highest bit set if it is guessed), length (2 bytes), order as JSON
//	id of the key (4 bytes) and signature of all before it (64 bytes); nothing of a director without an identity
//
// A seal that is sent again later makes nobody believe anything anew who counts: an order that was replaced stays so, and of an order that
// is held the larger age is. Who only guesses, after a restart, takes a seal's age for true, but for what it counted before, until a director that counts
// is heard: where all restarted, whoever kept a seal can make an order as much younger as they were away.
type seal struct {
	body, signature []byte
	orders          []Order
	bad             int // orders that were not understood: of a later version, say
}

// ageGuessed marks an age that goes by a wall clock.
const ageGuessed = 1 << 63

// The bounds of a seal.
const (
	sealPacket = 1096                                        // bytes of one in a packet, as large as the largest report; has room for any one order
	sealBytes  = 2 + signatureBytes                          // beside its orders
	orderBytes = 8 + 2                                       // of an order beside its text
	maxSeal    = sealBytes + maxOrders*(orderBytes+maxOrder) // bytes of one in a push/pull
)

var _ [sealPacket - sealBytes - orderBytes - maxOrder]struct{} // one order fits a packet

// sealed returns the seal of the orders as they are at now.
func sealed(orders []Order, by *Identity, now time.Time) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(orders)))
	for _, o := range orders {
		text := o.encode()
		age := uint64(o.age(now).Milliseconds())
		if o.guessed() {
			age |= ageGuessed
		}
		b = binary.BigEndian.AppendUint64(b, age)
		b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
		b = append(b, text...)
	}
	return by.sign(signOrders, b)
}

// unseal reads a seal that came at now. It keeps b.
func unseal(b []byte, now time.Time) (s seal, err error) {
	d := decoder{b: b}
	n := int(d.uint16())
	if n > maxOrders {
		return s, fmt.Errorf("%d orders, at most %d are accepted", n, maxOrders)
	}
	for i := 0; i < n && d.err == nil; i++ {
		age, text := d.uint64(), d.field()
		if d.err != nil {
			break
		}
		o, err := decodeOrder(text)
		if age&ageGuessed != 0 {
			age, o.latest = age&^ageGuessed, now
		}
		if err != nil || age > uint64(maxAge.Milliseconds()) {
			s.bad++
			continue
		}
		o.Given = now.Add(-time.Duration(age) * time.Millisecond)
		s.orders = append(s.orders, o)
	}
	if d.err == nil && len(d.b) != 0 && len(d.b) != signatureBytes {
		d.err = fmt.Errorf("orders with a signature of %d bytes, %d are accepted", len(d.b), signatureBytes)
	}
	s.body, s.signature = b[:len(b)-len(d.b)], d.b
	return s, d.err
}

// vouched says whether a seal is of a director that may give orders, where the plan lists any.
func (p *Plan) vouched(s seal) bool {
	return p.genuineOfDirector(signOrders, s.body, s.signature)
}

// lists says whether others take what an identity seals.
func (p *Plan) lists(i *Identity) bool {
	if p == nil || len(p.orders) == 0 {
		return true
	}
	if i == nil {
		return false
	}
	_, ok := p.orders[i.id]
	return ok
}

// fitting is how many of the orders, from the first on, fit one packet.
func fitting(orders []Order) int {
	room := sealPacket - sealBytes
	for i, o := range orders {
		if room -= orderBytes + len(o.encode()); room < 0 {
			return i
		}
	}
	return len(orders)
}
