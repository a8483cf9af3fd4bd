package healthmesh

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Reporter takes one problem of a configuration: key path, value, what is accepted.
type Reporter = func(key string, value any, accepted string)

// Config is the mesh as the configuration file states it.
type Config struct {
	// Listen is the address for gossip, UDP and TCP: "host:port".
	Listen string `mapstructure:"listen"`
	// Advertise is the address that others reach this node at, "host:port", where it differs. Optional, but needed
	// if Listen is all IPv6 addresses.
	Advertise string `mapstructure:"advertise"`
	// Join are nodes to join, "host:port", at most 64; may list this node and nodes that are down. Tried for ever.
	Join []string `mapstructure:"join"`
	// KeyFile has the gossip keys, base64 of 16, 24 or 32 bytes, one a line, the first encrypts; made by
	// "nearcast keygen mesh". Optional on loopback only; there the file may also be still missing.
	KeyFile string `mapstructure:"key_file"`
	// Identity is the file with the key that this node signs with, made by "nearcast keygen agent --out FILE": an agent its reports, a
	// director the orders that it takes. Each node has its own, at the same path. Optional: the node signs nothing.
	Identity string `mapstructure:"identity"`
	// Directors are the public keys of the directors that may give orders, base64 as "nearcast keygen agent" prints them, at most 64,
	// none that another list has. Optional: every member may.
	Directors []string `mapstructure:"directors"`
	// Witnesses is how many agents of other regions probe each endpoint, each of another region, 0 to 7. Optional, default 3. Two at least must
	// agree that it is unreachable.
	Witnesses *int `mapstructure:"witnesses"`
	// Label keeps meshes that share a network apart, at most 64 bytes. Optional, default "nearcast".
	Label string `mapstructure:"label"`
	// Beat is the time between an agent's full reports. Optional, default 1s, 100ms to 1m.
	Beat time.Duration `mapstructure:"beat"`
	// Lease is how long a report is believed, at least three beats, at most 10m. Optional, default five beats.
	Lease time.Duration `mapstructure:"lease"`
}

// The bounds of a Config.
const (
	minBeat, maxBeat   = 100 * time.Millisecond, time.Minute
	leaseBeats         = 3 // a lease has room for a lost beat and a late one
	defaultLeaseBeats  = 5
	maxLease           = 10 * time.Minute
	maxLabel           = 64   // bytes: part of every packet
	maxSeeds           = 64   // each is tried every few seconds
	maxSigners         = 64   // public keys of directors, or of one region's agents
	maxWitnesses       = 7    // each more is a vantage point more, and as many more checks
	defaultWitnesses   = 3    // one can fail, and two still agree
	maxKeys            = 8    // each is tried on packets that the first does not open
	maxKeyFile         = 4096 // bytes
	defaultLabel       = "nearcast"
	acceptedHostPort   = `"host:port" with a port from 1 to 65535`
	acceptedKeyFile    = "a file of base64 keys of 16, 24 or 32 bytes, one a line, at most 8"
	acceptedNoKey      = "a key file, made by \"nearcast keygen mesh\"; only a mesh that listens on loopback can be without"
	acceptedOne        = "one address that others reach this node at"
	acceptedAdvertised = "the address that others reach this node at, since it listens on all IPv6 addresses"
)

func (c Config) withDefaults() Config {
	c.Label = cmp.Or(c.Label, defaultLabel)
	c.Beat = cmp.Or(c.Beat, time.Second)
	c.Lease = cmp.Or(c.Lease, defaultLeaseBeats*c.Beat)
	if c.Witnesses == nil {
		n := defaultWitnesses
		c.Witnesses = &n
	}
	return c
}

// Validate reports what is wrong with the mesh at key and returns it with its defaults filled in; dir is what paths are relative to.
func (c Config) Validate(key, dir string, report Reporter) Config {
	c = c.withDefaults()
	if c.KeyFile != "" && !filepath.IsAbs(c.KeyFile) {
		c.KeyFile = filepath.Join(dir, c.KeyFile)
	}
	if _, err := os.Stat(c.KeyFile); errors.Is(err, fs.ErrNotExist) && onLoopback(c.Listen) {
		c.KeyFile = "" // not made yet; Start warns
	}
	listens := validHostPort(c.Listen, 0)
	if !listens {
		report(key+".listen", c.Listen, acceptedHostPort)
	}
	switch {
	case c.Advertise != "" && !validHostPort(c.Advertise, 1):
		report(key+".advertise", c.Advertise, acceptedHostPort)
	case c.Advertise != "" && everywhere(c.Advertise):
		report(key+".advertise", c.Advertise, acceptedOne)
	case c.Advertise == "" && listens && everywhere(c.Listen) && strings.Contains(host(c.Listen), ":"):
		report(key+".advertise", c.Advertise, acceptedAdvertised)
	}
	if len(c.Join) > maxSeeds {
		report(key+".join", len(c.Join), fmt.Sprintf("at most %d nodes", maxSeeds))
	}
	for i, seed := range c.Join {
		if !validHostPort(seed, 1) || host(seed) == "" {
			report(fmt.Sprintf("%s.join[%d]", key, i), seed, acceptedHostPort)
		}
	}
	if len(c.Label) > maxLabel {
		report(key+".label", c.Label, fmt.Sprintf("at most %d bytes", maxLabel))
	}
	if c.Beat < minBeat || c.Beat > maxBeat {
		report(key+".beat", c.Beat, fmt.Sprintf("%v to %v", minBeat, maxBeat))
	}
	if c.Lease < leaseBeats*c.Beat || c.Lease > maxLease {
		report(key+".lease", c.Lease, fmt.Sprintf("at least %d beats, %v, and at most %v", leaseBeats, leaseBeats*c.Beat, maxLease))
	}
	if c.Identity != "" && !filepath.IsAbs(c.Identity) {
		c.Identity = filepath.Join(dir, c.Identity)
	}
	within(key+".witnesses", *c.Witnesses, 0, maxWitnesses, report)
	if c.KeyFile == "" {
		if listens && !onLoopback(c.Listen) {
			report(key+".key_file", c.KeyFile, acceptedNoKey)
		}
	} else if _, err := loadKeys(c.KeyFile); err != nil {
		report(key+".key_file", c.KeyFile, acceptedKeyFile+": "+err.Error())
	}
	return c
}

// KeyLists reads the lists of public keys of one configuration, in which each key is in one place: who could sign for two regions,
// or for a region and as a director, would be two.
type KeyLists struct{ at map[PublicKey]string }

// Validate reports what is wrong with a list at a key path, and returns the keys that are good.
func (all *KeyLists) Validate(key string, list []string, report Reporter) (good []PublicKey) {
	if len(list) > maxSigners {
		report(key, len(list), fmt.Sprintf("at most %d public keys", maxSigners))
	}
	if all.at == nil {
		all.at = make(map[PublicKey]string)
	}
	for i, text := range list {
		path := fmt.Sprintf("%s[%d]", key, i)
		k, err := ParsePublicKey(text)
		if err != nil {
			report(path, text, "a public key, as \"nearcast keygen agent\" prints it: base64 of 32 bytes")
			continue
		}
		if other, taken := all.at[k]; taken {
			report(path, text, "a public key that is nobody else's: "+other+" has it")
			continue
		}
		all.at[k] = path
		good = append(good, k)
	}
	return good
}

// validHostPort says whether s is "host:port" with a port from least on; port 0 is any that is free.
func validHostPort(s string, least uint64) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n >= least
}

// everywhere says whether the host is all addresses of a family, none stated or the unspecified one.
func everywhere(hostPort string) bool {
	h := host(hostPort)
	addr, err := netip.ParseAddr(h)
	return h == "" || err == nil && addr.IsUnspecified()
}

func onLoopback(hostPort string) bool {
	h := host(hostPort)
	addr, err := netip.ParseAddr(h)
	return h == "localhost" || err == nil && addr.IsLoopback()
}

// loadKeys reads the keys of a file, none if file is "".
func loadKeys(file string) ([][]byte, error) {
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if info.Size() > maxKeyFile {
		return nil, fmt.Errorf("key file %s has %d bytes, at most %d are accepted", file, info.Size(), maxKeyFile)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	var keys [][]byte
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		// The line itself stays out of the error: it may be most of a key.
		key, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil {
			return nil, fmt.Errorf("key file %s, line %d is not base64", file, n)
		}
		if len(key) != 16 && len(key) != 24 && len(key) != 32 {
			return nil, fmt.Errorf("key file %s, line %d has a key of %d bytes, 16, 24 or 32 are accepted", file, n, len(key))
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("key file %s has %d keys, 1 to %d are accepted", file, len(keys), maxKeys)
	}
	return keys, lines.Err()
}

// GenerateKey returns a new gossip key as a line of a key file has it: base64 of 32 random bytes.
func GenerateKey() string {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}
