package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/nearcast/nearcast/steer"
)

// The demo's figure: two directors, and three regions of one agent and three backends.
const (
	demoDirectors = 2
	demoBackends  = 3
	demoZone      = "geo.example.com"
	demoStop      = time.Second // for open requests of backends at shutdown
)

// demoRegions are the regions of the demo, each with a client network that is near it.
var demoRegions = []struct{ Name, Location, Capacity, Client, Where string }{
	{"us-east", "[38.95, -77.45]", "300", "128.112.0.0/16", "New Jersey"},
	{"eu-west", "[53.35, -6.26]", "200", "193.0.0.0/21", "Amsterdam"},
	{"ap-south", "[19.08, 72.88]", "100", "117.192.0.0/16", "India"},
}

//go:embed demo.yaml
var demoConfig string

//go:embed demo.zone
var demoZoneFile []byte

// demo is what the flags of the demo say.
type demo struct {
	host             string
	dns, admin, mesh int // first ports: one more for each node
	http             int // of all backends
	out              io.Writer

	mu    sync.Mutex // guards the rest: a director writes events
	begun bool       // what to try is printed; events before it are the start's own
}

func newDemo() *cobra.Command {
	d := &demo{host: "127.0.0.1"}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a whole nearcast on this machine: two directors, three regions",
		Long: `Run a whole nearcast on loopback, with real sockets and the embedded geography: two directors, and three
regions of one agent and three HTTP backends each. It prints what to try, then a line for each event.
Ctrl-C ends it and leaves nothing behind.`,
		Example: `  nearcast demo
  nearcast demo --dns 5400 --admin 9053 --mesh 9946 --http 9080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			ctx, hangUp := signal.NotifyContext(ctx, syscall.SIGHUP) // its terminal is gone
			defer hangUp()
			d.out = cmd.OutOrStdout()
			return d.run(ctx)
		},
	}
	cmd.Flags().IntVar(&d.dns, "dns", 5300, "first of two ports for DNS")
	cmd.Flags().IntVar(&d.admin, "admin", 8053, "first of two ports for the API")
	cmd.Flags().IntVar(&d.mesh, "mesh", 7946, "first of five ports for gossip")
	cmd.PersistentFlags().IntVar(&d.http, "http", 8080, "port of the backends, on addresses in 127.0.1.0 to 127.0.3.255")
	cmd.AddCommand(d.newFault("fail", "Make the backends of a region of the running demo fail"),
		d.newFault("heal", "Make the backends of a region of the running demo work again"),
		newDemoBackend(), newDemoBalancer())
	return cmd
}

// run builds the whole figure and runs it until ctx ends.
func (d *demo) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "nearcast-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := d.writeConfig(dir)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	group, ctx := errgroup.WithContext(ctx)
	for i := range demoRegions {
		if err := d.startBackends(ctx, group, i); err != nil {
			return err
		}
	}
	for i, r := range demoRegions {
		from := d.node(path, demoDirectors+i)
		from.agent = r.Name
		l, err := from.load(nil)
		if err != nil {
			return err
		}
		a := &agent{source: from, name: "agent-" + r.Name, state: filepath.Join(dir, "agent-"+r.Name), log: log, loaded: l}
		group.Go(func() error { return a.run(ctx) })
	}
	up := make(chan struct{}, demoDirectors)
	for i := range demoDirectors {
		from := d.node(path, i)
		l, err := from.load(nil)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("director-%d", i+1)
		dir := &director{source: from, name: name, state: filepath.Join(dir, name), log: log, loaded: l}
		if i == 0 {
			dir.watch = d.event // both see the same
		}
		group.Go(func() error { return dir.run(ctx, func() { up <- struct{}{} }) })
	}
	group.Go(func() error {
		for range demoDirectors {
			select {
			case <-up:
			case <-ctx.Done():
				return nil
			}
		}
		d.printWhatToTry()
		return nil
	})
	return group.Wait()
}

// node is the demo's configuration for the n-th node: directors first, then agents.
func (d *demo) node(path string, n int) source {
	over := overrides{mesh: d.addr(d.mesh + n)}
	if n < demoDirectors {
		over.dns, over.admin = []string{d.addr(d.dns + n)}, d.addr(d.admin+n)
	}
	return source{path: path, over: over}
}

func (d *demo) addr(port int) string { return net.JoinHostPort(d.host, fmt.Sprint(port)) }

func (d *demo) writeConfig(dir string) (string, error) {
	if err := os.WriteFile(filepath.Join(dir, demoZone+".zone"), demoZoneFile, 0o600); err != nil {
		return "", err
	}
	type region struct {
		Name, Location, Capacity, Load string
		Addresses                      []string
	}
	data := struct {
		HTTP    int
		Join    []string
		Regions []region
	}{HTTP: d.http}
	for n := range demoDirectors + len(demoRegions) {
		data.Join = append(data.Join, d.addr(d.mesh+n))
	}
	for i, r := range demoRegions {
		addrs := backendAddrs(i)
		data.Regions = append(data.Regions, region{r.Name, r.Location, r.Capacity, fmt.Sprintf("http://%s:%d/load", addrs[0], d.http), addrs})
	}
	path := filepath.Join(dir, "nearcast.yaml")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return path, template.Must(template.New("demo.yaml").Parse(demoConfig)).Execute(f, data)
}

// backendAddrs are the addresses of the i-th region's backends: 127.0.1.1 to 127.0.1.3 for the first.
func backendAddrs(region int) []string {
	addrs := make([]string, demoBackends)
	for k := range addrs {
		addrs[k] = netip.AddrFrom4([4]byte{127, 0, byte(region + 1), byte(k + 1)}).String()
	}
	return addrs
}

// startBackends binds and serves the backends of one region until ctx ends.
func (d *demo) startBackends(ctx context.Context, group *errgroup.Group, region int) error {
	s := newSite(demoRegions[region].Name)
	for _, addr := range backendAddrs(region) {
		at := net.JoinHostPort(addr, fmt.Sprint(d.http))
		ln, err := net.Listen("tcp", at)
		if err != nil {
			return fmt.Errorf("backend address %s cannot be used (see --http): %w", at, err)
		}
		group.Go(func() error { return serveHTTP(ctx, ln, s.backend(addr)) })
	}
	return nil
}

// event prints one change; a director calls it.
func (d *demo) event(c steer.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.begun {
		fmt.Fprintf(d.out, "%s  %s\n", time.Now().Format(time.TimeOnly), c)
	}
}

func (d *demo) printWhatToTry() {
	var b strings.Builder
	fmt.Fprintf(&b, "nearcast is up: directors at %s and %s, zone %s\n\n", d.addr(d.dns), d.addr(d.dns+1), demoZone)
	b.WriteString("Ask as clients of three continents:\n")
	for _, r := range demoRegions {
		fmt.Fprintf(&b, "  dig @%s -p %d www.%s +short +subnet=%-15s # %s: %s\n", d.host, d.dns, demoZone, r.Client, r.Where, r.Name)
	}
	fmt.Fprintf(&b, "\nFail a region and bring it back, or drain it (run these beside this one):\n")
	fmt.Fprintf(&b, "  go run ./cmd/nearcast demo fail us-east%s\n", d.httpFlag())
	fmt.Fprintf(&b, "  go run ./cmd/nearcast demo heal us-east%s\n", d.httpFlag())
	fmt.Fprintf(&b, "  go run ./cmd/nearcast drain eu-west --for 2m --server %s\n", d.addr(d.admin))
	fmt.Fprintf(&b, "  go run ./cmd/nearcast undrain eu-west --server %s\n", d.addr(d.admin))
	fmt.Fprintf(&b, "\nSee why, and what is believed (API and metrics: http://%s/metrics):\n", d.addr(d.admin))
	fmt.Fprintf(&b, "  go run ./cmd/nearcast explain www.%s --client 128.112.0.1 --server %s\n", demoZone, d.addr(d.admin))
	fmt.Fprintf(&b, "  go run ./cmd/nearcast status --server %s\n\n", d.addr(d.admin))
	b.WriteString("Ctrl-C ends it. Events:\n")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun = true
	fmt.Fprint(d.out, b.String())
}

func (d *demo) httpFlag() string {
	if d.http == 8080 {
		return ""
	}
	return fmt.Sprintf(" --http %d", d.http)
}

// newFault is the verb that makes a region of the running demo fail, or heals it.
func (d *demo) newFault(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " REGION",
		Short:   short,
		Example: "  nearcast demo " + verb + " us-east",
		Args:    arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var names []string
			for i, r := range demoRegions {
				if r.Name == args[0] {
					return postFault(cmd.Context(), fmt.Sprintf("http://%s:%d/demo/%s", backendAddrs(i)[0], d.http, verb))
				}
				names = append(names, r.Name)
			}
			return fmt.Errorf("%q is not one of %s", args[0], strings.Join(names, ", "))
		},
	}
}

func postFault(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no demo answers: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// serveHTTP answers on ln until ctx ends.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: clientTimeout}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		closing, cancel := context.WithTimeout(context.Background(), demoStop)
		defer cancel()
		if srv.Shutdown(closing) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(ln)
	if stop() { // ctx goes on: it failed by itself
		return err
	}
	<-closed
	return nil
}
