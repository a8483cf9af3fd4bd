package dnsserver

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
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
	maxMAC    = 64  // octets
)

// GenerateTSIGKey returns a new secret as a file for KeyConfig has it.
func GenerateTSIGKey() string { return base64.StdEncoding.EncodeToString(randomBytes(newSecret)) }

// A key is a KeyConfig in use.
type key struct {
	name, algorithm string // absolute, lower case
	secret          string // base64
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
		switch k.algorithm {
		case dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512:
		default:
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
	k.secret = strings.TrimSpace(string(b))
	secret, err := base64.StdEncoding.DecodeString(k.secret)
	if err == nil && (len(secret) < minSecret || len(secret) > maxSecret) {
		err = fmt.Errorf("%d bytes", len(secret))
	}
	return err
}

// verify tells which of the keys signed the packet q, whose TSIG is t. Otherwise it is the error that TSIG has for what is
// wrong (RFC 8945, section 5.2).
func (s *Settings) verify(q []byte, t *dns.TSIG) (k *key, problem uint16) {
	k = s.keys[dns.CanonicalName(t.Hdr.Name)]
	if k == nil || k.algorithm != dns.CanonicalName(t.Algorithm) {
		return nil, dns.RcodeBadKey
	}
	switch err := dns.TsigVerify(q, k.secret, "", false); {
	case err == nil:
		return k, 0
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
	m.Compress = true
	t := &dns.TSIG{
		Hdr:       dns.RR_Header{Name: c.tsig.Hdr.Name, Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
		Algorithm: c.tsig.Algorithm, TimeSigned: uint64(c.scene.Now.Unix()), Fudge: tsigFudge, OrigId: c.tsig.OrigId, Error: c.tsigError,
	}
	secret, now := "", t.TimeSigned
	if c.key != nil {
		secret = c.key.secret
	}
	if c.tsigError == dns.RcodeBadTime { // RFC 8945, section 5.2.3
		t.TimeSigned = c.tsig.TimeSigned
		t.OtherLen, t.OtherData = 6, fmt.Sprintf("%012x", now)
	}
	if c.tsigError == dns.RcodeBadKey || c.tsigError == dns.RcodeBadSig {
		return appendUnsigned(b, t)
	}
	m.Extra = append(m.Extra, t)
	b, mac, err := dns.TsigGenerate(m, secret, c.mac, c.streams)
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
