package dnsserver

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/dchest/siphash"
)

// DNS cookies (RFC 7873), in the form that all servers of a zone share (RFC 9018): a server's is a version, three
// octets of nothing, the time, and the SipHash-2-4 of all this with the client's cookie and address.
const (
	clientCookie  = 8
	serverCookie  = 16
	cookieLen     = clientCookie + serverCookie
	maxCookie     = 40 // of both parts, in the forms of other servers
	cookieVersion = 1

	cookieLife  = 3600 // seconds for which a cookie is good (RFC 9018, section 4.3)
	cookieAhead = 300  // seconds that another director's clock may be ahead
	cookieFresh = 1800 // seconds until a client gets a new one

	maxCookieKeys = 4 // each is tried
	cookieFileMax = 1024
)

// cookieKeys are the secrets: the first makes cookies, all are accepted.
type cookieKeys []cookieKey

type cookieKey struct{ k0, k1 uint64 }

// GenerateCookieKey returns a new secret as a line of a cookie file.
func GenerateCookieKey() string {
	return hex.EncodeToString(randomBytes(16))
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// ownCookieKeys is the secret of this process.
var ownCookieKeys = sync.OnceValue(func() cookieKeys {
	k, err := parseCookieKey(GenerateCookieKey())
	if err != nil {
		panic(err)
	}
	return cookieKeys{k}
})

func parseCookieKey(text string) (k cookieKey, err error) {
	b, err := hex.DecodeString(text)
	if err == nil && len(b) != 16 {
		err = fmt.Errorf("a secret of %d octets", len(b))
	}
	if err != nil {
		return k, err
	}
	return cookieKey{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}, nil
}

func readCookieKeys(path string) (keys cookieKeys, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > cookieFileMax {
		return nil, fmt.Errorf("%d octets", info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Fields(string(text)) {
		k, err := parseCookieKey(line)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 || len(keys) > maxCookieKeys {
		return nil, fmt.Errorf("%d secrets", len(keys))
	}
	return keys, nil
}

// make makes the cookie of a client at an address, both parts of it, at now in Unix seconds.
func (k cookieKey) make(client []byte, source netip.Addr, now uint32) (c [cookieLen]byte) {
	copy(c[:], client)
	c[clientCookie] = cookieVersion
	binary.BigEndian.PutUint32(c[clientCookie+4:], now)
	binary.LittleEndian.PutUint64(c[clientCookie+8:], k.hash(c[:clientCookie+8], source))
	return c
}

// hash is the hash in a cookie that begins with head (RFC 9018, section 4.4).
func (k cookieKey) hash(head []byte, source netip.Addr) uint64 {
	var b [clientCookie + 8 + 16]byte
	n := copy(b[:], head)
	if source.Is4() {
		a := source.As4()
		n += copy(b[n:], a[:])
	} else {
		a := source.As16()
		n += copy(b[n:], a[:])
	}
	return siphash.Hash(k.k0, k.k1, b[:n])
}

// check tells if a cookie of a client at an address is one of ours and in its time, and if it is to be replaced. The
// octets of nothing may be any: the hash covers them (RFC 9018, section 4.2).
func (keys cookieKeys) check(c []byte, source netip.Addr, now uint32) (good, old bool) {
	if len(c) != cookieLen || c[clientCookie] != cookieVersion {
		return false, true
	}
	age := int32(now - binary.BigEndian.Uint32(c[clientCookie+4:])) // by serial number arithmetic (RFC 1982)
	if age > cookieLife || age < -cookieAhead {
		return false, true
	}
	for i, k := range keys {
		var want [8]byte
		binary.LittleEndian.PutUint64(want[:], k.hash(c[:clientCookie+8], source))
		if subtle.ConstantTimeCompare(want[:], c[clientCookie+8:]) == 1 {
			return true, i > 0 || age > cookieFresh
		}
	}
	return false, true
}
