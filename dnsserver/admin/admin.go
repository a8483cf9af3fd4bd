// Package admin owns the HTTP side of a director: metrics, readiness, status,
// explanations and orders. It knows nothing of packets or of how a view is merged.
package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

// Bounds of one request: a person or a scraper asks, never the query path.
const (
	maxBody       = 64 << 10         // an order is a few hundred bytes
	headerTimeout = 5 * time.Second  // a slow header holds one goroutine
	readTimeout   = 10 * time.Second // a slow body, too
	idleTimeout   = 60 * time.Second // a scraper's usual interval
	orderTimeout  = 5 * time.Second  // for an order to be in the view and on disk
	closeTimeout  = 2 * time.Second  // for open requests at shutdown
	writeTimeout  = 30 * time.Second // for a client that reads slowly
	maxConns      = 256              // a few people and scrapers, and room for those that do not close
	maxFromOne    = 32               // of these, from one address, so that none keeps out the others
)

// Mesh is what the admin needs of the mesh.
type Mesh interface {
	View() *healthmesh.View
	Give(context.Context, healthmesh.Order) error
	Rotate(ctx context.Context, change, key string) (healthmesh.Keyring, error)
}

// Options are what the admin serves. All are immutable.
type Options struct {
	Addr     string        // "host:port"
	Node     string        // this director's name
	Token    func() string // that lets orders be given from elsewhere than loopback; "" for none
	Snapshot func() *steer.Snapshot
	Mesh     Mesh
	Metrics  *prometheus.Registry
	Reload   func(context.Context) error
	Log      *slog.Logger
}

// Server is a bound admin server.
type Server struct {
	o     Options
	ln    net.Listener
	local bool // only this host reaches it
	http  *http.Server

	refused atomic.Int64 // when a refused order was logged last, Unix nanoseconds
}

// Listen binds the address.
func Listen(o Options) (*Server, error) {
	ln, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("admin address %s cannot be used: %w", o.Addr, err)
	}
	s := &Server{o: o, ln: newShared(ln), local: isLoopback(ln.Addr().String())}
	s.http = &http.Server{
		// A page in an operator's browser must not be able to give orders.
		Handler:           http.NewCrossOriginProtection().Handler(http.MaxBytesHandler(s.byAddress(s.routes()), maxBody)),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		WriteTimeout:      writeTimeout,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Addr is the address in use.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Serve answers until ctx ends, and then for as long as open requests take, within a bound.
func (s *Server) Serve(ctx context.Context) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := s.http.Shutdown(closing); err != nil {
			s.http.Close()
		}
	})
	err := s.http.Serve(s.ln)
	if stop() { // ctx goes on: it failed by itself
		return fmt.Errorf("admin server: %w", err)
	}
	<-closed
	return nil
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.o.Metrics, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn)}))
	// Neither depends on the health of any region: a director that hears nothing still answers.
	mux.HandleFunc("GET /healthz", plain("ok"))
	mux.HandleFunc("GET /readyz", plain("ready"))
	mux.HandleFunc("GET /api/v1/status", s.status)
	mux.HandleFunc("GET /api/v1/explain", s.explain)
	mux.HandleFunc("POST /api/v1/orders", s.ordersOnly(s.order))
	mux.HandleFunc("GET /api/v1/keyring", s.keyring)
	mux.HandleFunc("POST /api/v1/keyring", s.ordersOnly(s.changeKeyring))
	mux.HandleFunc("POST /api/v1/reload", s.ordersOnly(s.reload))
	return mux
}

func plain(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, text) }
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, makeStatus(s.o.Node, s.o.Snapshot(), s.o.Mesh.View(), time.Now()))
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	qtype, ok := dns.StringToType[strings.ToUpper(q.Get("type"))]
	if q.Get("type") == "" {
		qtype, ok = dns.TypeA, true
	}
	if !ok {
		fail(w, http.StatusBadRequest, fmt.Errorf("type: %q is not a record type such as A or AAAA", q.Get("type")))
		return
	}
	client, err := ParseClient(q.Get("client"))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	e, err := s.o.Snapshot().Explain(s.o.Mesh.View(), q.Get("name"), qtype, steer.Asker{Source: client.Addr(), Subnet: client})
	if err != nil {
		fail(w, http.StatusNotFound, err)
		return
	}
	reply(w, http.StatusOK, e)
}

// ParseClient reads a client's address or network.
func ParseClient(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("client: %q is neither an address nor a network", text)
	}
	return p.Masked(), nil
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if err := s.o.Reload(r.Context()); err != nil {
		fail(w, http.StatusConflict, err)
		return
	}
	reply(w, http.StatusOK, map[string]uint64{"generation": s.o.Snapshot().Generation})
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // a client that went away is no concern of the server
}

// Failure is the body of every answer that is not a success.
type Failure struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, code int, err error) { reply(w, code, Failure{err.Error()}) }
