package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
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
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			l, err := loadConfig(path, nil)
			if err != nil {
				return err
			}
			over.apply(l)
			if err := l.forAgent(region); err != nil {
				return err
			}
			role := "agent-" + region
			a := &agent{
				path: path, region: region, name: over.node(role, l), state: stateDir(l.State, role, l.Mesh.Listen),
				log: newLog(), loaded: l, over: over,
			}
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
	path, region, name, state string
	log                       *slog.Logger
	over                      overrides
	loaded                    *loaded // owned by reloadLoop once run has begun
}

// run checks and reports until ctx ends, then leaves the mesh.
func (a *agent) run(ctx context.Context) error {
	m, err := healthmesh.Start(healthmesh.Options{
		Config: a.loaded.Mesh, Name: a.name, Role: "agent", Region: a.region, Dir: a.state, Log: a.log,
	})
	if err != nil {
		return err
	}
	reload := make(chan healthmesh.AgentOptions)
	group, running := errgroup.WithContext(ctx)
	o := a.options(a.loaded)
	group.Go(func() error { healthmesh.RunAgent(running, m, o, reload); return nil })
	group.Go(func() error { return a.reloadLoop(running, reload) })
	a.log.Info("reporting", "region", a.region, "targets", len(o.Targets))
	err = group.Wait()
	leave, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	return errors.Join(err, m.Close(leave))
}

func (a *agent) options(l *loaded) healthmesh.AgentOptions {
	r, _ := l.region(a.region)
	return healthmesh.AgentOptions{Targets: l.Targets(a.region), Load: r.Load, Capacity: r.Capacity, Log: a.log}
}

// reloadLoop loads the file again on SIGHUP and on a change; a bad file leaves the old state.
func (a *agent) reloadLoop(ctx context.Context, reload chan<- healthmesh.AgentOptions) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	w, err := watchFiles(ctx, a.loaded.Files, a.log)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		case <-w.Changed():
		}
		next, err := loadConfig(a.path, a.loaded)
		if err == nil {
			a.over.apply(next)
			err = next.forAgent(a.region)
		}
		if err != nil {
			a.log.Error("reload refused; the old state stays", "error", err)
			continue
		}
		a.loaded = next
		w.Watch(next.Files)
		select {
		case reload <- a.options(next):
			a.log.Info("reload applied", "targets", len(next.Targets(a.region)))
		case <-ctx.Done():
			return nil
		}
	}
}

// forAgent says what an agent of a region lacks in the configuration.
func (l *loaded) forAgent(region string) error {
	if l.Mesh.Listen == "" {
		return fmt.Errorf("mesh.listen: missing: an agent reports over the mesh, so an address for gossip is needed here or as --mesh")
	}
	if _, ok := l.region(region); !ok {
		var names []string
		for _, r := range l.Regions {
			names = append(names, r.Name)
		}
		return fmt.Errorf("--region: %q is not one of %s", region, strings.Join(names, ", "))
	}
	return nil
}
