package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// The pace and the bounds of a demo's balancer.
const (
	balancerCheck   = 1 * time.Second        // between looks at a server's health
	balancerTimeout = 500 * time.Millisecond // of one look, and of connecting to a server
	serverTimeout   = 5 * time.Second        // for a server to begin its answer
	maxOwnReply     = 4096                   // octets of an answer to the balancer itself
	idleConns       = 64                     // to one server, kept for the next request
)

// A balancer spreads requests over the healthy servers of one region, round robin.
type balancer struct {
	servers []*balanced
	next    atomic.Uint64
	client  *http.Client
	log     *slog.Logger
}

// A balanced server is one behind a balancer.
type balanced struct {
	url     *url.URL
	proxy   *httputil.ReverseProxy
	healthy atomic.Bool
}

func newBalancer(urls []string, log *slog.Logger) (*balancer, error) {
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: balancerTimeout}).DialContext,
		ResponseHeaderTimeout: serverTimeout,
		MaxIdleConnsPerHost:   idleConns,
		IdleConnTimeout:       serverTimeout,
	}
	b := &balancer{client: &http.Client{Transport: transport, Timeout: balancerTimeout}, log: log}
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("--backend: %q is not a URL such as http://server-1:8080", text)
		}
		s := &balanced{url: u, proxy: httputil.NewSingleHostReverseProxy(u)}
		s.proxy.Transport = transport
		s.proxy.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // it is not the client that went away
				s.healthy.Store(false) // until the next look
			}
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
		b.servers = append(b.servers, s)
	}
	return b, nil
}

// handler answers for the region: healthy while one server is.
func (b *balancer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s := b.pick()
		if s == nil {
			http.Error(w, "no healthy server", http.StatusServiceUnavailable)
			return
		}
		s.proxy.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !slices.ContainsFunc(b.servers, func(s *balanced) bool { return s.healthy.Load() }) {
			http.Error(w, "no healthy server", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /load", func(w http.ResponseWriter, r *http.Request) { writeLoad(w, b.load(r.Context())) })
	mux.HandleFunc("POST /demo/{verb}", nearOnly(b.tellAll))
	return mux
}

// pick is the next healthy server, nil if there is none.
func (b *balancer) pick() *balanced {
	first := b.next.Add(1)
	for i := range uint64(len(b.servers)) {
		if s := b.servers[(first+i)%uint64(len(b.servers))]; s.healthy.Load() {
			return s
		}
	}
	return nil
}

// load is the sum of the healthy servers' loads.
func (b *balancer) load(ctx context.Context) float64 {
	sum := 0.0
	for _, s := range b.servers {
		if !s.healthy.Load() {
			continue
		}
		var l siteLoad
		body, err := b.do(ctx, http.MethodGet, s.url.JoinPath("load"))
		if err == nil && json.Unmarshal(body, &l) == nil {
			sum += l.Load
		}
	}
	return sum
}

// tellAll passes "fail" or "heal" on to all servers.
func (b *balancer) tellAll(w http.ResponseWriter, r *http.Request) {
	var failed error
	for _, s := range b.servers {
		_, err := b.do(r.Context(), http.MethodPost, s.url.JoinPath("demo", r.PathValue("verb")))
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		http.Error(w, failed.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (b *balancer) do(ctx context.Context, method string, u *url.URL) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxOwnReply))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", u, resp.Status)
	}
	return body, err
}

// watch looks at one server again and again until ctx ends.
func (b *balancer) watch(ctx context.Context, s *balanced) {
	tick := time.NewTicker(balancerCheck)
	defer tick.Stop()
	for {
		b.look(ctx, s)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look sets whether one server is healthy now.
func (b *balancer) look(ctx context.Context, s *balanced) {
	_, err := b.do(ctx, http.MethodGet, s.url.JoinPath("healthz"))
	if ctx.Err() != nil {
		return
	}
	if was := s.healthy.Swap(err == nil); was != (err == nil) {
		b.log.Info("server", "url", s.url.String(), "healthy", err == nil, "error", err)
	}
}

func newDemoBalancer() *cobra.Command {
	var listen string
	var backends []string
	cmd := &cobra.Command{
		Use:     "balancer",
		Short:   "Run a region's load balancer in front of demo servers",
		Example: `  nearcast demo balancer --listen :8080 --backend http://server-1:8080 --backend http://server-2:8080`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			b, err := newBalancer(backends, newLog())
			if err != nil {
				return err
			}
			ln, err := listenHTTP(listen)
			if err != nil {
				return err
			}
			group, ctx := errgroup.WithContext(ctx)
			for _, s := range b.servers {
				group.Go(func() error { b.watch(ctx, s); return nil })
			}
			group.Go(func() error { return serveHTTP(ctx, ln, b.handler()) })
			return group.Wait()
		},
	}
	cmd.Flags().StringVar(&listen, "listen", ":8080", "address")
	cmd.Flags().StringArrayVar(&backends, "backend", nil, "URL of a server; one flag for each")
	cobra.CheckErr(cmd.MarkFlagRequired("backend"))
	return cmd
}

func listenHTTP(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("address %s cannot be used: %w", addr, err)
	}
	return ln, nil
}
