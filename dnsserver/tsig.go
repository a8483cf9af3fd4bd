package dnsserver

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/nearcast/nearcast/zones"
)

// KeyConfig is a shared secret that signs messages (TSIG, RFC 8945), as the configuration file states it.
type KeyConfig struct {
	// Name of the key, a domain name, the same on both sides.
	Name string `mapstructure:"name"`
	// Algorithm is hmac-sha256, hmac-sha384 or hmac-sha512. Optional, default hmac-sha256.
	Algorithm string `mapstructure:"algorithm"`
	// SecretFile has the secret, base64 of 16 to 64 bytes; made by "nearcast keygen tsig".
	SecretFile string `mapstructure:"secret_file"`
}

// The bounds of a secret, in bytes (RFC 8945, section 8).
const (
	minSecret = 16
	maxSecret = 64
	newSecret = 32
	tsigFudge = 300 // seconds that clocks may differ (RFC 8945, section 10)
	minMAC    = 10  // octets of a truncated MAC, which is half of a whole one at least (RFC 8945, section 5.2.2.1)
	maxMAC    = 64  // octets
)

// GenerateTSIGKey returns a new secret as a file for KeyConfig has it.
func GenerateTSIGKey() string { return base64.StdEncoding.EncodeToString(randomBytes(newSecret)) }

// A key is a KeyConfig in use. It is what miekg/dns signs and verifies with (dns.TsigProvider).
type key struct {
	name, algorithm string // absolute, lower case
	secret          []byte
}

var hashes = map[string]func() hash.Hash{dns.HmacSHA256: sha256.New, dns.HmacSHA384: sha512.New384, dns.HmacSHA512: sha512.New}

func (k *key) hmac() hash.Hash { return hmac.New(hashes[k.algorithm], k.secret) }

// equal tells if two keys are the same; either may be nil.
func (k *key) equal(other *key) bool {
	if k == nil || other == nil {
		return k == other
	}
	return k.name == other.name && k.algorithm == other.algorithm && hmac.Equal(k.secret, other.secret)
}

// Generate is the MAC of msg.
func (k *key) Generate(msg []byte, _ *dns.TSIG) ([]byte, error) {
	h := k.hmac()
	h.Write(msg)
	return h.Sum(nil), nil
}

// Verify tells if t is what this key makes of msg.
func (k *key) Verify(msg []byte, t *dns.TSIG) error {
	mac, err := k.Generate(msg, t)
	if err != nil {
		return err
	}
	return k.compare(mac, t)
}

var (
	errLength    = errors.New("a MAC that has not the length of its algorithm's")
	errTruncated = errors.New("a truncated MAC, and only whole ones are accepted")
)

// compare tells if t has the MAC that it should have, of this key.
func (k *key) compare(want []byte, t *dns.TSIG) error {
	mac, err := hex.DecodeString(t.MAC)
	switch {
	case err != nil:
		return err
	case dns.CanonicalName(t.Hdr.Name) != k.name || dns.CanonicalName(t.Algorithm) != k.algorithm:
		return dns.ErrSecret
	case len(mac) > len(want) || len(mac) < max(minMAC, len(want)/2):
		return errLength
	case !hmac.Equal(mac, want[:len(mac)]):
		return dns.ErrSig
	case len(mac) < len(want):
		return errTruncated
	}
	return nil
}

// keys compiles the configured keys, by name.
func compileKeys(at string, configs []KeyConfig, file func(string) string, report Reporter) map[string]*key {
	keys := map[string]*key{}
	for i, c := range configs {
		at := fmt.Sprintf("%s[%d]", at, i)
		k := &key{name: dns.CanonicalName(c.Name), algorithm: dns.Fqdn(strings.ToLower(c.Algorithm))}
		if c.Algorithm == "" {
			k.algorithm = dns.HmacSHA256
		}
		if _, ok := dns.IsDomainName(c.Name); !ok || c.Name == "" {
			report(at+".name", c.Name, "a domain name")
		} else if keys[k.name] != nil {
			report(at+".name", c.Name, "each key once")
		}
		if hashes[k.algorithm] == nil {
			report(at+".algorithm", c.Algorithm, "hmac-sha256, hmac-sha384 or hmac-sha512")
		}
		if c.SecretFile == "" {
			report(at+".secret_file", c.SecretFile, "the secret's file")
		} else if err := k.read(file(c.SecretFile)); err != nil {
			report(at+".secret_file", c.SecretFile, "a file with base64 of 16 to 64 bytes: "+err.Error())
		}
		keys[k.name] = k
	}
	return keys
}

func (k *key) read(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > 4*maxSecret {
		return fmt.Errorf("%d bytes", info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	k.secret, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err == nil && (len(k.secret) < minSecret || len(k.secret) > maxSecret) {
		err = fmt.Errorf("%d bytes", len(k.secret))
	}
	return err
}

// verify tells which of the keys signed the packet q, whose TSIG is t. Otherwise it is the error that TSIG has for what is
// wrong (RFC 8945, section 5.2), or FORMERR.
func (s *Settings) verify(q []byte, t *dns.TSIG) (k *key, problem uint16) {
	k = s.keys[dns.CanonicalName(t.Hdr.Name)]
	if k == nil || k.algorithm != dns.CanonicalName(t.Algorithm) {
		return nil, dns.RcodeBadKey
	}
	switch err := dns.TsigVerifyWithProvider(q, k, "", false); {
	case err == nil:
		return k, 0
	case errors.Is(err, errLength):
		return nil, dns.RcodeFormatError
	case errors.Is(err, errTruncated):
		return k, dns.RcodeBadTrunc
	case errors.Is(err, dns.ErrTime):
		return k, dns.RcodeBadTime
	}
	return nil, dns.RcodeBadSig
}

// sign signs the reply b to a signed query; b is without what comes before the reply. Of a query that was not to be
// trusted, the reply tells why.
func (c *conversation) sign(b []byte) ([]byte, error) {
	m := &dns.Msg{}
	if err := m.Unpack(b); err != nil {
		return nil, err
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			zones.FromWire(rr)
		}
	}
	m.Compress = true
	t := &dns.TSIG{
		Hdr:       dns.RR_Header{Name: c.tsig.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
		Algorithm: c.tsig.Algorithm, TimeSigned: uint64(c.scene.Now.Unix()), Fudge: tsigFudge, OrigId: c.tsig.OrigId, Error: c.tsigError,
	}
	now := t.TimeSigned
	if c.tsigError == dns.RcodeBadTime { // RFC 8945, section 5.2.3
		t.TimeSigned = c.tsig.TimeSigned
		t.OtherLen, t.OtherData = 6, fmt.Sprintf("%012x", now)
	}
	if c.tsigError == dns.RcodeBadKey || c.tsigError == dns.RcodeBadSig {
		return appendUnsigned(b, t)
	}
	m.Extra = append(m.Extra, t)
	b, mac, err := dns.TsigGenerateWithProvider(m, c.key, c.mac, c.streams)
	c.mac = mac
	return b, err
}

// appendUnsigned appends a TSIG without a signature (RFC 8945, section 5.3.2). The time stands in it all the same, or askers
// would take their clock for the fault.
func appendUnsigned(b []byte, t *dns.TSIG) ([]byte, error) {
	whole := append(b, make([]byte, dns.Len(t))...)
	end, err := dns.PackRR(t, whole, len(b), nil, false)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(whole[10:], binary.BigEndian.Uint16(whole[10:])+1)
	return whole[:end], nil
}

// exchangeTimeout bounds a question to another server.
const exchangeTimeout = 5 * time.Second

// exchange asks another server. With a key the question is signed, and a reply that is not is none (RFC 8945, section 5.3).
func (s *Server) exchange(ctx context.Context, m *dns.Msg, transport, address string, k *key, timeout time.Duration) (*dns.Msg, error) {
	client := dns.Client{Net: transport, Timeout: timeout, Dialer: s.dialer(transport, address)}
	if k != nil {
		m.SetTsig(k.name, k.algorithm, tsigFudge, time.Now().Unix())
		client.TsigProvider = k
	}
	r, _, err := client.ExchangeContext(ctx, m, address)
	if err == nil && k != nil && r.IsTsig() == nil {
		err = errUnsigned
	}
	return r, err
}

var errUnsigned = errors.New("its reply is not signed")

// maxUnsigned is how many messages of a transfer may come between two that are signed (RFC 8945, section 5.3.1).
const maxUnsigned = 99

// A verifier verifies the messages of a transfer with a key (RFC 8945, section 5.3.1): a signature is made over the one before and
// all that came since.
type verifier struct {
	key      *key
	h        hash.Hash
	streams  bool // the first message came
	unsigned int  // messages since the last signature
}

// newVerifier begins with the MAC of the question.
func newVerifier(k *key, mac string) (*verifier, error) {
	v := &verifier{key: k}
	return v, v.begin(mac)
}

func (v *verifier) begin(mac string) error {
	b, err := hex.DecodeString(mac)
	v.h, v.unsigned = v.key.hmac(), 0
	v.h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(b))))
	v.h.Write(b)
	return err
}

// verify takes the next message: b, which it changes, and m, what it says.
func (v *verifier) verify(b []byte, m *dns.Msg) error {
	t := m.IsTsig()
	if t == nil {
		if !v.streams || v.unsigned == maxUnsigned {
			return errUnsigned
		}
		v.unsigned++
		v.h.Write(b)
		return nil
	}
	if err := dns.TsigVerifyWithProvider(b, v, "", v.streams); err != nil {
		return err
	}
	v.streams = true
	return v.begin(t.MAC)
}

// Verify implements dns.TsigProvider, for verify.
func (v *verifier) Verify(msg []byte, t *dns.TSIG) error {
	v.h.Write(msg)
	return v.key.compare(v.h.Sum(nil), t)
}

// Generate implements dns.TsigProvider; nothing is signed with it.
func (v *verifier) Generate(msg []byte, t *dns.TSIG) ([]byte, error) { return nil, dns.ErrKeyAlg }
