package healthmesh

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// keyFile writes a key file and returns it with the key.
func keyFile(t *testing.T) (file, key string) {
	t.Helper()
	file, key = filepath.Join(t.TempDir(), "key"), GenerateKey()
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, key
}

func fingerprintOf(t *testing.T, key string) string {
	t.Helper()
	k, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	return Fingerprint(k)
}

// The keys of a whole mesh change while it runs, agents' too, and the change outlives restarts; nobody is cut off meanwhile.
func Test_keys_rotate_without_a_restart(t *testing.T) {
	file, old := keyFile(t)
	withKey := func(o Options) Options { o.Config.KeyFile = file; return o }
	d1 := begin(t, withKey(director("d1")), nil)
	d2 := begin(t, withKey(director("d2", d1)), nil)
	a := begin(t, withKey(agentIn("a", d1)), nil)
	a.Publish(up(endpointA))
	nodes := []*node{d1, d2, a}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	rotate := func(d *node, op, key string, want ...string) {
		t.Helper()
		d.eventually("three members of one keyring", func(v *View) bool { return len(v.Members) == 3 })
		var last Keyring
		var err error
		for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			if last, err = d.Rotate(ctx, op, key); err == nil || !strings.Contains(err.Error(), "cut off") || time.Now().After(end) {
				break // what is refused since members are behind is allowed once they are not
			}
		}
		if err != nil {
			t.Fatalf("%s: %v, %+v", op, err, last)
		}
		for _, n := range nodes {
			n.eventually("the keys after "+op, func(*View) bool {
				r, err := n.Rotate(ctx, "", "")
				return err == nil && slices.Equal(r.Keys, want) && len(r.Behind) == 0
			})
		}
	}
	next := GenerateKey()
	was, is := fingerprintOf(t, old), fingerprintOf(t, next)
	rotate(d1, KeyAdd, next, was, is)
	if _, err := d1.Rotate(ctx, KeyRemove, was); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("the key in use can be removed: %v", err)
	}
	rotate(d2, KeyUse, is, is, was)
	rotate(d1, KeyRemove, was, is)
	d1.sees("a up")
	d2.kill()
	d2 = d2.again(nil)
	nodes[1] = d2
	for _, n := range nodes {
		n.eventually("the new key alone after a restart", func(v *View) bool {
			r, err := n.Rotate(ctx, "", "")
			return err == nil && slices.Equal(r.Keys, []string{is}) && len(v.Members) == 3
		})
	}
	// Another file in place of the old one is the operator's word.
	if err := os.WriteFile(file, []byte(next+"\n"+old+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.kill()
	a = a.again(nil)
	a.Publish(up(endpointA))
	r, err := a.Rotate(ctx, "", "")
	if err != nil || len(r.Keys) == 0 || r.Keys[0] != is {
		t.Errorf("after a restart with another key file: %+v, %v", r, err)
	}
	d1.sees("a up")
}

// What cannot be a change of the keyring is refused, and changes nothing.
func Test_what_Rotate_refuses(t *testing.T) {
	file, old := keyFile(t)
	o := director("d1")
	o.Config.KeyFile = file
	d := begin(t, o, nil)
	for _, c := range []struct{ op, key, want string }{
		{KeyAdd, "short", "not a key"},
		{KeyAdd, base64.StdEncoding.EncodeToString(make([]byte, 20)), "not a key"},
		{KeyAdd, old, "already"},
		{KeyUse, "0123456789abcdef", "no such key"},
		{KeyUse, fingerprintOf(t, old), "in use already"},
		{KeyRemove, old, "use another first"},
		{"turn", old, "accepted"},
	} {
		if r, err := d.Rotate(t.Context(), c.op, c.key); err == nil || !strings.Contains(err.Error(), c.want) || len(r.Keys) != 1 {
			t.Errorf("%s %s: %v, %+v, want %q", c.op, c.key, err, r, c.want)
		}
	}
	bare := begin(t, director("d2"), nil)
	if _, err := bare.Rotate(t.Context(), KeyAdd, GenerateKey()); err == nil || !strings.Contains(err.Error(), "no keys") {
		t.Errorf("a mesh without keys: %v", err)
	}
}

// After a change at the end of time there can be none, which stops no node.
func Test_no_change_of_keys_is_later_than_the_last(t *testing.T) {
	file, old := keyFile(t)
	o := director("d1")
	o.Config.KeyFile = file
	d := begin(t, o, nil)
	key, _ := base64.StdEncoding.DecodeString(old)
	last := &ring{Keys: [][]byte{key, make([]byte, 32)}, At: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), By: "d2"}
	d.core.gossip.NotifyMsg(append([]byte{kindRing}, last.encode(nil)...))
	d.eventually("two keys", func(*View) bool { r, err := d.Rotate(t.Context(), "", ""); return err == nil && len(r.Keys) == 2 })
	if _, err := d.Rotate(t.Context(), KeyAdd, GenerateKey()); err == nil || !strings.Contains(err.Error(), "10000") {
		t.Errorf("%v", err)
	}
}

// Where directors are listed, nobody else changes the keys.
func Test_only_listed_directors_change_keys(t *testing.T) {
	file, old := keyFile(t)
	good, bad := someone(t), someone(t)
	start := func(name string, i *Identity, seeds ...*node) *node {
		o := director(name, seeds...)
		o.Config.KeyFile, o.Identity, o.Plan = file, i, guarded(nil, good)
		return begin(t, o, nil)
	}
	d1 := start("d1", good)
	d2 := start("d2", bad, d1)
	d1.eventually("two members", func(v *View) bool { return len(v.Members) == 2 })
	if r, err := d2.Rotate(t.Context(), KeyAdd, GenerateKey()); err != errUnlisted || len(r.Keys) != 1 {
		t.Errorf("a director that is not listed adds a key: %+v, %v", r, err)
	}
	forged := &ring{Keys: [][]byte{make([]byte, 32)}, At: time.Now(), By: "d2"}
	d1.core.gossip.NotifyMsg(append([]byte{kindRing}, forged.encode(bad)...))
	d1.eventually("a keyring that is refused", func(*View) bool { return d1.Stats().Forged > 0 })
	// A change of before the key file, that someone kept, cuts no new node off.
	before := &ring{Keys: [][]byte{make([]byte, 32)}, At: time.Now().Add(-time.Hour), By: "d1"}
	d1.core.gossip.NotifyMsg(append([]byte{kindRing}, before.encode(good)...))
	d1.eventually("an earlier keyring that is refused", func(*View) bool { return d1.Stats().Earlier > 0 })
	if r, err := d1.Rotate(t.Context(), "", ""); err != nil || !slices.Equal(r.Keys, []string{fingerprintOf(t, old)}) {
		t.Errorf("%+v, %v", r, err)
	}
}

// Of two rings the later wins, whatever order they come in.
func TestRings(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	make := func(by string, at time.Time, key byte) *ring {
		r := &ring{Keys: [][]byte{{0: key, 31: 0}}, At: at, By: by}
		r.raw = r.encode(nil)
		got, _, signature, err := decodeRing(r.raw)
		if err != nil || len(signature) != 0 || !got.At.Equal(at) || got.By != by {
			t.Fatalf("%+v, %x, %v", got, signature, err)
		}
		return got
	}
	rings := []*ring{make("a", at, 1), make("b", at, 1), make("b", at, 2), make("a", at.Add(1), 1)}
	for i, r := range rings {
		for j, o := range rings {
			if r.beats(o) != (i > j) {
				t.Errorf("%d beats %d: %v", i, j, r.beats(o))
			}
		}
	}
	for _, bad := range []string{"", "\x00", "\x00\x02{}", "\x00\x05hello"} {
		if r, _, _, err := decodeRing([]byte(bad)); err == nil {
			t.Errorf("%q is the ring %+v", bad, r)
		}
	}
}
