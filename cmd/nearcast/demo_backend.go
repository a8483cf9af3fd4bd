package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

// A site is the backends of one region of the demo: they fail together.
type site struct {
	region  string
	failing atomic.Bool
	served  rate
}

func newSite(region string) *site { return &site{region: region} }

// siteLoad is what a site or a balancer says at /load, in requests a second.
type siteLoad struct {
	Load float64 `json:"load"`
}

// backend is one server of the site.
func (s *site) backend(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		s.served.add(time.Now())
		s.answer(w, fmt.Sprintf("%s, server %s", s.region, name))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, "ok") })
	mux.HandleFunc("GET /load", func(w http.ResponseWriter, _ *http.Request) { writeLoad(w, s.served.perSecond(time.Now())) })
	mux.HandleFunc("POST /demo/fail", s.setFailing(true))
	mux.HandleFunc("POST /demo/heal", s.setFailing(false))
	return mux
}

func (s *site) answer(w http.ResponseWriter, text string) {
	if s.failing.Load() {
		http.Error(w, s.region+" was told to fail", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, text)
}

// setFailing makes the site fail or work; only who is near may ask.
func (s *site) setFailing(failing bool) http.HandlerFunc {
	return nearOnly(func(w http.ResponseWriter, _ *http.Request) {
		s.failing.Store(failing)
		fmt.Fprintf(w, "%s failing: %t\n", s.region, failing)
	})
}

// nearOnly lets requests from this machine and private networks pass.
func nearOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if a := from.Addr().Unmap(); err != nil || !a.IsLoopback() && !a.IsPrivate() {
			http.Error(w, "only from this machine or a private network", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

func writeLoad(w http.ResponseWriter, perSecond float64) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(siteLoad{perSecond}) // who went away needs no load
}

// A rate counts events over the last full second.
type rate struct {
	second atomic.Int64 // Unix time of count
	count  atomic.Int64
	last   atomic.Int64 // of the second before
}

func (r *rate) add(now time.Time) {
	r.turn(now)
	r.count.Add(1)
}

func (r *rate) perSecond(now time.Time) float64 {
	r.turn(now)
	return float64(r.last.Load())
}

// turn begins a new second; what two requests lose to each other in this moment does not matter to a demo.
func (r *rate) turn(now time.Time) {
	s, was := now.Unix(), r.second.Load()
	if s == was || !r.second.CompareAndSwap(was, s) {
		return
	}
	n := r.count.Swap(0)
	if s > was+1 {
		n = 0
	}
	r.last.Store(n)
}

func newDemoBackend() *cobra.Command {
	var listen, region string
	cmd := &cobra.Command{
		Use:     "backend",
		Short:   "Run one web server of a region, to be checked and balanced",
		Example: `  nearcast demo backend --listen :8080 --region us-east`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			ln, err := listenHTTP(listen)
			if err != nil {
				return err
			}
			return serveHTTP(ctx, ln, newSite(region).backend(host))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", ":8080", "address")
	cmd.Flags().StringVar(&region, "region", "", "name of the region that it says it is in")
	cobra.CheckErr(cmd.MarkFlagRequired("region"))
	return cmd
}
