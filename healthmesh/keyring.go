package healthmesh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// A ring is the gossip keys of the whole mesh, from the first change at run time on; before it, each node has its key file's. It is one
// value that goes around whole, and the later one wins: so all nodes end with the same keys, in the same order.
type ring struct {
	Keys [][]byte  `json:"keys"` // the first encrypts, all decrypt
	At   time.Time `json:"at"`   // later wins; ties by By
	By   string    `json:"by"`   // the director that took the change

	raw []byte // as that director signed it, to be passed on
}

const (
	maxRing     = 1024             // bytes of an encoded ring, so that it fits a packet: eight keys, a name and a signature
	maxBehind   = 5                // members that an error names
	metaTimeout = time.Millisecond // UpdateNode waits so long until others have it; nothing depends on that
)

// encode is the ring as it travels: JSON, then the signature.
func (r *ring) encode(i *Identity) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Errorf("keys do not encode: %w", err)) // they are bytes, a name, and a time that was checked
	}
	head := binary.BigEndian.AppendUint16(nil, uint16(len(b)))
	return append(head, i.sign(signRing, b)...)
}

// decodeRing reads what encode made, and returns what is signed and the signature.
func decodeRing(raw []byte) (r *ring, body, signature []byte, err error) {
	d := decoder{b: raw}
	if body = d.field(); d.err != nil || len(raw) > maxRing {
		return nil, nil, nil, fmt.Errorf("ring of %d bytes", len(raw))
	}
	r = &ring{raw: raw}
	if err := json.Unmarshal(body, r); err != nil {
		return nil, nil, nil, fmt.Errorf("ring that is not JSON: %w", err)
	}
	r.At = r.At.Round(0).UTC()
	return r, body, d.b, r.check()
}

func (r *ring) check() error {
	switch {
	case len(r.Keys) == 0 || len(r.Keys) > maxKeys:
		return fmt.Errorf("ring of %d keys, 1 to %d are accepted", len(r.Keys), maxKeys)
	case !validName(r.By, maxName) || !inCalendar(r.At):
		return fmt.Errorf("ring by %q at %v", r.By, r.At)
	}
	for i, k := range r.Keys {
		if err := memberlist.ValidateKey(k); err != nil || slices.ContainsFunc(r.Keys[:i], func(o []byte) bool { return bytes.Equal(o, k) }) {
			return fmt.Errorf("ring with a key of %d bytes, or twice the same", len(k))
		}
	}
	return nil
}

func (r *ring) has(key []byte) bool {
	return slices.ContainsFunc(r.Keys, func(k []byte) bool { return bytes.Equal(k, key) })
}

// beats says whether r replaces o.
func (r *ring) beats(o *ring) bool {
	switch {
	case o == nil:
		return true
	case !r.At.Equal(o.At):
		return r.At.After(o.At)
	case r.By != o.By:
		return r.By > o.By
	}
	return bytes.Compare(r.raw, o.raw) > 0
}

// Fingerprint names a key without telling it: 16 hexadecimal digits.
func Fingerprint(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// digest names keys and which of them, the first, encrypts; "" for none.
func digest(keys [][]byte) string {
	if len(keys) == 0 {
		return ""
	}
	others := slices.SortedFunc(slices.Values(keys[1:]), bytes.Compare)
	return Fingerprint(append(slices.Clone(keys[0]), bytes.Join(others, nil)...))
}

// A Keyring is what a node knows of the mesh's keys.
type Keyring struct {
	Keys   []string `json:"keys"`   // fingerprints; the first encrypts
	Behind []string `json:"behind"` // members that have other keys, or encrypt with another
}

// The changes of the keyring.
const (
	KeyAdd    = "add"    // all nodes can decrypt with it
	KeyUse    = "use"    // all nodes encrypt with it
	KeyRemove = "remove" // no node can decrypt with it
)

// A rotation is a change of the keyring on its way in; done has room for one outcome.
type rotation struct {
	op   string
	key  string
	done chan rotated
}

type rotated struct {
	ring Keyring
	err  error
}

// Rotate changes the keys of all nodes: op is KeyAdd with a key as a line of a key file has it, KeyUse or KeyRemove with that or its
// fingerprint, or "" to change nothing. To use or remove a key is refused while a member is behind: it would be cut off.
func (m *Mesh) Rotate(ctx context.Context, op, key string) (Keyring, error) {
	r := rotation{op, key, make(chan rotated, 1)}
	select {
	case m.core.rotations <- r:
	case <-ctx.Done():
		return Keyring{}, ctx.Err()
	case <-m.stopped:
		return Keyring{}, errClosed
	}
	out := <-r.done
	return out.ring, out.err
}

// rotate makes the change, and the keyring after it.
func (c *core) rotate(r rotation) rotated {
	if c.keys == nil {
		return rotated{err: errors.New("the mesh has no keys: it began without a key file")}
	}
	if r.op != "" {
		if !c.plan.Load().lists(c.o.Identity) {
			return rotated{c.keyring(), errUnlisted}
		}
		next, err := c.keysAfter(r.op, r.key)
		if err != nil {
			return rotated{c.keyring(), err}
		}
		at := c.o.Wall().Round(0).UTC()
		if c.ring != nil && !at.After(c.ring.At) {
			at = c.ring.At.Add(1)
		}
		n := &ring{Keys: next, At: at, By: c.o.Name}
		if err := n.check(); err != nil {
			return rotated{c.keyring(), err}
		}
		n.raw = n.encode(c.o.Identity)
		if err := c.useRing(n); err != nil {
			return rotated{c.keyring(), err}
		}
	}
	return rotated{ring: c.keyring()}
}

// keysAfter are the keys after a change.
func (c *core) keysAfter(op, key string) ([][]byte, error) {
	keys := c.keysInUse()
	if op == KeyAdd {
		k, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key))
		if err != nil || memberlist.ValidateKey(k) != nil {
			return nil, errors.New("not a key as a line of a key file has it: base64 of 16, 24 or 32 bytes")
		}
		if slices.ContainsFunc(keys, func(o []byte) bool { return bytes.Equal(o, k) }) {
			return nil, fmt.Errorf("key %s is there already", Fingerprint(k))
		}
		if len(keys) == maxKeys {
			return nil, fmt.Errorf("there are %d keys already, the most there can be", maxKeys)
		}
		return append(keys, k), nil
	}
	at := slices.IndexFunc(keys, func(k []byte) bool {
		return Fingerprint(k) == key || base64.StdEncoding.EncodeToString(k) == strings.TrimSpace(key)
	})
	behind := c.keyring().Behind
	switch {
	case at < 0:
		return nil, fmt.Errorf("no such key, there are %s", strings.Join(c.keyring().Keys, ", "))
	case len(behind) > 0:
		return nil, fmt.Errorf("%d members have other keys and would be cut off, such as %s", len(behind), strings.Join(behind[:min(len(behind), maxBehind)], ", "))
	case op == KeyUse && at == 0:
		return nil, fmt.Errorf("key %s is in use already", Fingerprint(keys[at]))
	case op == KeyUse:
		return append([][]byte{keys[at]}, slices.Delete(slices.Clone(keys), at, at+1)...), nil
	case op == KeyRemove && at == 0:
		return nil, fmt.Errorf("key %s is in use: use another first", Fingerprint(keys[at]))
	case op == KeyRemove:
		return slices.Delete(keys, at, at+1), nil
	}
	return nil, fmt.Errorf("change %q, %s, %s and %s are accepted", op, KeyAdd, KeyUse, KeyRemove)
}

// keysInUse are the node's keys, the one that encrypts first.
func (c *core) keysInUse() [][]byte {
	if c.keys == nil {
		return nil
	}
	return slices.Clone(c.keys.GetKeys())
}

func (c *core) keyring() Keyring {
	keys := c.keysInUse()
	k := Keyring{Keys: []string{}, Behind: []string{}}
	for _, key := range keys {
		k.Keys = append(k.Keys, Fingerprint(key))
	}
	for _, n := range c.nodes {
		if n.Name != c.o.Name && member(n).Keys != digest(keys) {
			k.Behind = append(k.Behind, n.Name)
		}
	}
	return k
}

// takeRing takes a ring that came, if it is later than what the node has and a director's.
func (c *core) takeRing(raw []byte) {
	if len(raw) == 0 || c.ring != nil && bytes.Equal(raw, c.ring.raw) {
		return
	}
	r, body, signature, err := decodeRing(raw)
	switch {
	case err != nil:
		c.refuse(notUnderstood, "keyring not understood", "error", err)
	case c.keys == nil || !r.beats(c.ring):
	case !c.plan.Load().genuineOfDirector(signRing, body, signature):
		c.refuse(notGenuine, "keyring refused: not signed by a key that the configuration lists for directors", "by", r.By)
	case c.ring == nil && !slices.ContainsFunc(c.keysInUse(), r.has):
		// The key file has none of these keys: they are of an earlier time, kept by who sends them again, and would cut this node off.
		c.refuse(outOfDate, "keyring refused: it has no key of the key file", "by", r.By, "at", r.At)
	default:
		if err := c.useRing(r); err != nil {
			c.o.Log.Error("the mesh's new keys cannot be used", "by", r.By, "error", err)
		}
	}
}

// useRing makes r the keys of this node, tells others, and has it saved.
func (c *core) useRing(r *ring) error {
	before := digest(c.keysInUse())
	for _, k := range r.Keys {
		if err := c.keys.AddKey(k); err != nil {
			return err
		}
	}
	if err := c.keys.UseKey(r.Keys[0]); err != nil {
		return err
	}
	for _, k := range c.keysInUse() {
		if !r.has(k) {
			if err := c.keys.RemoveKey(k); err != nil {
				return err
			}
		}
	}
	c.ring = r
	c.gossip.orderQueue.QueueBroadcast(&broadcast{name: "ring", b: append([]byte{kindRing}, r.raw...)})
	c.toDirectors(append([]byte{kindRing}, r.raw...))
	c.announce()
	c.save(nil)
	if after := digest(c.keysInUse()); after != before {
		c.o.Log.Info("keys of the mesh", "before", before, "after", after, "keys", len(r.Keys), "by", r.By, "at", r.At)
	}
	return nil
}

// announce tells others which keys this node has.
func (c *core) announce() {
	meta := encodeMeta(c.o.Role, c.o.Region, digest(c.keysInUse()))
	c.gossip.meta.Store(&meta)
	if c.updateNode != nil {
		c.updateNode()
	}
}

// keysAtStart are the keys to begin with: the key file's, or the mesh's own that are remembered, unless another key file was put in its place since.
func keysAtStart(file string, past memory) (keys [][]byte, r *ring, sum string, err error) {
	keys, err = loadKeys(file)
	if err != nil || file == "" {
		return keys, nil, "", err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, "", fmt.Errorf("key file: %w", err)
	}
	sum = Fingerprint(text)
	if past.KeyFile != sum || len(past.Ring) == 0 {
		return keys, nil, sum, nil
	}
	if r, _, _, err = decodeRing(past.Ring); err != nil {
		return nil, nil, "", fmt.Errorf("keys that the state folder remembers: %w", err)
	}
	return r.Keys, r, sum, nil
}
