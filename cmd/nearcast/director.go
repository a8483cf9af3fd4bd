package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/nearcast/nearcast/dnsserver"
	"github.com/nearcast/nearcast/dnsserver/admin"
	"github.com/nearcast/nearcast/healthmesh"
	"github.com/nearcast/nearcast/steer"
)

const (
	// settleTime is how long a starting director waits for a peer's table. Without it a
	// director that was away while a region failed would begin with a view from before.
	settleTime = 2 * time.Second
	// leaveTime bounds the farewell to the mesh at shutdown.
	leaveTime = 3 * time.Second
)

// A director is a process that serves DNS.
type director struct {
	source source
	name   string // in the mesh and in orders
	state  string // this node's state folder
	log    *slog.Logger
	watch  func(steer.Change) // told of each change; may be nil
	alone  bool               // the process is this director's: once bound, it gives up its capabilities

	loaded   *loaded                // owned by run, then by reloadLoop
	token    atomic.Pointer[string] // of loaded, for the API
	mesh     mesh
	keeper   *steer.Keeper
	dns      *dnsserver.Server
	admin    *admin.Server
	reloads  *prometheus.CounterVec
	asked    chan chan error // reloads that the API asks for
	installs chan install    // zones that were transferred
}

// mesh is a director's part in the mesh, or the lack of one.
type mesh interface {
	steer.Mesh
	admin.Mesh
	Adopt(*healthmesh.Plan)
	Stats() healthmesh.Stats
	Close(context.Context) error
}

// noMesh is the mesh of a configuration that has none: no evidence, ever.
type noMesh struct{}

func (noMesh) View() *healthmesh.View   { return &healthmesh.View{} }
func (noMesh) Changed() <-chan struct{} { return nil }
func (noMesh) Rotate(context.Context, string, string) (healthmesh.Keyring, error) {
	return healthmesh.Keyring{}, errors.New("the configuration has no mesh, so it has no keys")
}
func (noMesh) Stats() healthmesh.Stats     { return healthmesh.Stats{} }
func (noMesh) Adopt(*healthmesh.Plan)      {}
func (noMesh) Close(context.Context) error { return nil }
func (noMesh) Give(context.Context, healthmesh.Order) error {
	return errors.New("the configuration has no mesh, so no director could be told")
}

// run serves until ctx ends; ready is called once, when queries are answered.
func (d *director) run(ctx context.Context, ready func()) (err error) {
	if d.loaded.Mesh.Listen != "" {
		lock, err := lockState(d.state)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	if d.mesh, err = d.join(ctx); err != nil {
		return err
	}
	defer func() {
		leave, cancel := context.WithTimeout(context.Background(), leaveTime)
		defer cancel()
		err = errors.Join(err, d.mesh.Close(leave))
	}()
	d.keeper = steer.NewKeeper(d.loaded.survey(), d.mesh, d.log, d.watch)
	if err := d.listen(); err != nil {
		return err
	}
	if d.alone {
		if err := dropCapabilities(rights{}); err != nil {
			return errors.Join(err, d.dns.Close())
		}
	}
	debug.FreeOSMemory() // reading geography left more behind than serving takes
	d.tell(nil)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { d.keeper.Run(ctx); return nil })
	group.Go(func() error { return d.dns.Serve(ctx) })
	group.Go(func() error { return d.admin.Serve(ctx) })
	group.Go(func() error { return d.reloadLoop(ctx) })
	d.log.Info("ready", "dns", d.dns.Addrs(), "admin", d.admin.Addr(), "generation", d.keeper.Snapshot().Generation)
	ready()
	return group.Wait()
}

// join starts this node's part in the mesh and waits until it is the best to start with:
// queries are answered from the first on, so the first must be right.
func (d *director) join(ctx context.Context) (mesh, error) {
	if d.loaded.Mesh.Listen == "" {
		return noMesh{}, nil
	}
	m, err := healthmesh.Start(healthmesh.Options{
		Config: d.loaded.Mesh, Name: d.name, Role: "director", Dir: d.state, Log: d.log,
		Plan: d.loaded.plan, Identity: d.loaded.self,
	})
	if err != nil {
		return nil, err
	}
	settle, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	m.Settled(settle)
	return m, nil
}

func (d *director) listen() (err error) {
	d.asked, d.installs = make(chan chan error), make(chan install)
	d.dns, err = dnsserver.Listen(dnsserver.Options{
		Listen: d.loaded.Listen.DNS, ListenTLS: d.loaded.Listen.TLS, Settings: d.loaded.dns, Snapshot: d.keeper.Snapshot, View: d.mesh.View,
		Install: d.install, Expire: d.expire, Log: d.log,
	})
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	d.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "nearcast_reloads_total", Help: "Reloads of the configuration by result: applied or refused.",
	}, []string{"result"})
	d.reloads.WithLabelValues("applied")
	d.reloads.WithLabelValues("refused")
	departures := admin.NewDepartures()
	d.keeper.OnDeparture(departures.Add)
	metrics.MustRegister(
		d.dns, d.reloads, departures, admin.Beliefs{Snapshot: d.keeper.Snapshot, View: d.mesh.View, Stats: d.mesh.Stats},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	d.token.Store(&d.loaded.token)
	d.admin, err = admin.Listen(admin.Options{
		Addr: d.loaded.adminAddr(), Node: d.name, Token: func() string { return *d.token.Load() },
		Snapshot: d.keeper.Snapshot, Mesh: d.mesh, Metrics: metrics, Reload: d.askReload, Log: d.log,
	})
	if err != nil {
		return errors.Join(err, d.dns.Close())
	}
	return nil
}

// nodeName is a node's name in the mesh: unique as long as a host's ports are.
func nodeName(role, meshListen string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return role + "@" + host + ":" + portOf(meshListen)
}

// stateDir is a node's own folder: nodes of one host may share one configuration file.
func stateDir(state, role, meshListen string) string {
	return filepath.Join(state, role+"-"+portOf(meshListen))
}

func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "0"
	}
	return port
}

// askReload has the loop reload, for the API.
func (d *director) askReload(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case d.asked <- done:
	case <-ctx.Done():
		return fmt.Errorf("a reload is under way: %w", ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
