package main

import (
	"context"
	"errors"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/nearcast/nearcast/healthmesh"
)

func newAgent() *cobra.Command {
	var path, region string
	var over overrides
	cmd := &cobra.Command{
		Use:   "agent -c FILE --region REGION",
		Short: "Run a region's agent: check its endpoints and report",
		Long: `Run a region's agent: check the endpoints that the region has for each service, read its load, and gossip
both to the directors. It takes the same file as they do. SIGHUP and a change of the file reload it; SIGTERM
ends it, and takes its region's evidence back at once.`,
		Example: `  nearcast agent -c nearcast.yaml --region us-east --mesh 127.0.0.1:7947`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(syscall.SIGHUP) // until there is something to reload
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			log := newLog()
			role := "agent-" + region
			from := source{path, over, region}
			rights, err := from.confine(role, log)
			if err != nil {
				return err
			}
			l, err := from.load(nil)
			if err != nil {
				return err
			}
			a := &agent{source: from, name: over.node(role, l), state: stateDir(l.State, role, l.Mesh.Listen), rights: rights, log: log, loaded: l}
			return a.run(ctx)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "nearcast.yaml", "configuration file")
	cmd.Flags().StringVar(&region, "region", "", "region that this agent is in")
	cobra.CheckErr(cmd.MarkFlagRequired("region"))
	over.flags(cmd)
	return cmd
}

// An agent is a process that checks one region and reports.
type agent struct {
	source source
	name   string // in the mesh
	state  string // this node's state folder
	log    *slog.Logger
	rights rights  // that it kept as it started
	loaded *loaded // owned by reloadLoop once run has begun
}

// run checks and reports until ctx ends, then leaves the mesh.
func (a *agent) run(ctx context.Context) error {
	lock, err := lockState(a.state)
	if err != nil {
		return err
	}
	defer lock.Close()
	m, err := healthmesh.Start(healthmesh.Options{
		Config: a.loaded.Mesh, Name: a.name, Role: "agent", Region: a.source.agent, Dir: a.state, Log: a.log,
		Plan: a.loaded.plan, Identity: a.loaded.self,
	})
	if err != nil {
		return err
	}
	reload := make(chan healthmesh.AgentOptions)
	group, running := errgroup.WithContext(ctx)
	o := a.options(a.loaded)
	group.Go(func() error { return dropCapabilities(a.rights) }) // the mesh is bound
	group.Go(func() error { healthmesh.RunAgent(running, m, o, reload); return nil })
	group.Go(func() error { return a.reloadLoop(running, m, reload) })
	var left error
	group.Go(func() error { // at once: nobody is to believe this agent for as long as its checks take to end
		<-running.Done()
		leave, cancel := context.WithTimeout(context.Background(), leaveTime)
		defer cancel()
		left = m.Close(leave)
		return nil
	})
	a.log.Info("reporting", "region", a.source.agent, "targets", len(o.Targets))
	return errors.Join(group.Wait(), left)
}

func (a *agent) options(l *loaded) healthmesh.AgentOptions {
	r, _ := l.region(a.source.agent)
	return healthmesh.AgentOptions{
		Region: a.source.agent, Targets: l.targets(a.source.agent), Load: r.Load, Backends: r.Backends,
		Capacity: r.Capacity, MaxCapacity: r.maxCapacity(), Log: a.log,
	}
}

// reloadLoop loads the file again on SIGHUP and on a change; a bad file leaves the old state.
func (a *agent) reloadLoop(ctx context.Context, m *healthmesh.Mesh, reload chan<- healthmesh.AgentOptions) error {
	w, err := watchFiles(a.loaded.Files, a.loaded.seen, a.log)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case reason := <-w.Changed():
			a.log.Info("reload asked for", "by", reason)
		}
		next, err := a.source.load(a.loaded)
		if err != nil {
			a.log.Error("reload refused; the old state stays", "error", err)
			continue
		}
		if a.source.rights(&next.Config).programs && !a.rights.programs {
			a.log.Warn("checks of type exec need a restart: an agent that starts without any gives up the right to run programs")
		}
		warnFixed(a.loaded.fixed(next), a.log)
		a.loaded = next
		w.Watch(next.Files, next.seen)
		m.Adopt(next.plan)
		select {
		case reload <- a.options(next):
			a.log.Info("reload applied", "targets", len(next.targets(a.source.agent)))
		case <-ctx.Done():
			return nil
		}
	}
}
