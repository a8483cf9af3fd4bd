package healthmesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// How memberlist is set. Its failure detector is only for membership: a region's health is judged by reports.
const (
	retransmit   = 4                      // times the logarithm of the members that a message is sent on
	gossipNodes  = 4                      // that get each packet; every 200 ms
	probeTimeout = 600 * time.Millisecond // of round-trip time between continents, and then some
	streamTime   = 5 * time.Second        // for a push/pull to connect, send and receive
	syncInterval = 5 * time.Second        // between push/pulls, the longest that a lost order or report stays unknown
	reclaimTime  = time.Second            // until a dead node's name can come from another address: it has a new one after a restart
	bindTries    = 10                     // for a port that is free for TCP and UDP, where any will do
)

// listConfig is memberlist's configuration, with a transport that is bound.
func listConfig(o Options, keys [][]byte, g *gossip) (*memberlist.Config, error) {
	conf := memberlist.DefaultLANConfig()
	conf.Name = o.Name
	conf.Label = o.Config.Label
	conf.EnableCompression = false // reports are hashes and small; unpacking is work that others could make
	conf.RetransmitMult = retransmit
	conf.GossipNodes = gossipNodes
	conf.ProbeTimeout = probeTimeout
	conf.TCPTimeout = streamTime
	conf.PushPullInterval = syncInterval
	conf.DeadNodeReclaimTime = reclaimTime
	conf.GossipVerifyIncoming, conf.GossipVerifyOutgoing = true, true
	conf.Delegate, conf.Events, conf.Alive = g, g, g
	conf.Logger = log.New(&logWriter{log: o.Log}, "", 0)
	if len(keys) > 0 {
		ring, err := memberlist.NewKeyring(keys, keys[0])
		if err != nil {
			return nil, fmt.Errorf("key file %s: %w", o.Config.KeyFile, err)
		}
		conf.Keyring = ring
	}
	if err := bind(conf, o); err != nil {
		return nil, err
	}
	if o.tune != nil {
		o.tune(conf)
	}
	return conf, nil
}

// bind opens the sockets, unless there is a transport, and sets the addresses.
func bind(conf *memberlist.Config, o Options) error {
	c := o.Config
	at, err := lookUp(c.Listen)
	if err != nil {
		return fmt.Errorf("mesh address %s: %w", c.Listen, err)
	}
	conf.BindAddr, conf.BindPort = at.Addr().String(), int(at.Port())
	conf.Transport = o.Transport
	if o.Transport == nil {
		if err := open(conf); err != nil {
			return fmt.Errorf("mesh on %s: %w", c.Listen, err)
		}
	}
	conf.AdvertisePort = conf.BindPort
	if c.Advertise != "" {
		to, err := lookUp(c.Advertise)
		if err != nil {
			return errors.Join(fmt.Errorf("mesh address to advertise %s: %w", c.Advertise, err), conf.Transport.Shutdown())
		}
		conf.AdvertiseAddr, conf.AdvertisePort = to.Addr().String(), int(to.Port())
	}
	return nil
}

// open opens the sockets; port 0 becomes the one that it got.
func open(conf *memberlist.Config) error {
	tries := 1
	if conf.BindPort == 0 {
		tries = bindTries
	}
	var bound *transport
	var err error
	for range tries {
		bound, err = newTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{conf.BindAddr}, BindPort: conf.BindPort, Logger: conf.Logger,
		})
		if err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	conf.Transport = bound
	conf.BindPort = bound.GetAutoBindPort()
	return nil
}

// lookUp returns the first address of "host:port"; an empty host is all IPv4 addresses.
func lookUp(hostPort string) (netip.AddrPort, error) {
	h, p, err := net.SplitHostPort(hostPort)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if h == "" {
		h = "0.0.0.0"
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", h)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(port)), nil
}

func host(hostPort string) string {
	h, _, _ := net.SplitHostPort(hostPort) // it was bound, so it splits
	return h
}

// The bound of memberlist's log: it logs each packet that it cannot send or decrypt.
const (
	logBurst  = 20
	logWindow = time.Minute
)

// A logWriter turns memberlist's lines, "[LEVEL] memberlist: text", into records. Its errors are warnings here: what
// it calls an error is a packet lost, and the mesh is made for that.
type logWriter struct {
	log *slog.Logger

	mu       sync.Mutex
	window   time.Time // guarded by mu: when the present window began
	written  int       // guarded by mu: in this window, above debug
	withheld int       // guarded by mu: in this window
}

var _ io.Writer = (*logWriter)(nil)

func (w *logWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelWarn, bytes.TrimSpace(line)
	if tag, rest, ok := bytes.Cut(text, []byte("] ")); ok && len(tag) > 0 && tag[0] == '[' {
		text = bytes.TrimPrefix(rest, []byte("memberlist: "))
		switch string(tag[1:]) {
		case "DEBUG":
			level = slog.LevelDebug
		case "INFO":
			level = slog.LevelInfo
		}
	}
	if w.admit(level) {
		w.log.Log(context.Background(), level, "gossip: "+string(text))
	}
	return len(line), nil
}

func (w *logWriter) admit(level slog.Level) bool {
	if level < slog.LevelInfo {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.window) >= logWindow {
		if w.withheld > 0 {
			w.log.Warn("gossip: more lines were not logged", "lines", w.withheld)
		}
		w.window, w.written, w.withheld = now, 0, 0
	}
	if w.written >= logBurst {
		w.withheld++
		return false
	}
	w.written++
	return true
}
